//! A model in one small file, to be sent along or built into a program.

mod rounding;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use burn::{
    module::{Module, ModuleMapper, Param},
    store::{ModuleSnapshot, burn_pack::Tensor as Entry},
    tensor::{Bytes, DType, Device, Shape, Tensor},
};
use miniz_oxide::{
    MZFlush, MZStatus,
    deflate::{
        core::{CompressionStrategy, CompressorOxide, create_comp_flags_from_zip_params},
        stream::deflate,
    },
    inflate::decompress_to_vec_zlib_with_limit,
};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use xr_data::{Embeddings, Fingerprint, Tokenizer};

use crate::{
    Checkpoint, Error, FeatureModel, Inputs, Model, ModelConfig, Result,
    embed::device_of,
    encoder::ImageEncoder,
    weights_file::{Format, Layout, WeightsFile},
};

/// The format written, and the only one that can be read.
const FORMAT: &str = "1";
/// What the name of a matrix's steps ends with.
const STEP: &str = ".step";
/// What a file may become, in bytes: more is an attack, or a model that should be a [`Checkpoint`].
const LARGEST: usize = 1 << 30;
/// Rows of at most so many weights are short: the filters of depthwise convolutions, which are few
/// weights and decide much.
const SHORT: usize = 32;
/// How much finer short rows are rounded, to numbers of 16 bits.
const FINER: f32 = 10.0;
/// Names of the query bank's rows.
const BANK: [&str; 2] = ["bank/pictures", "bank/captions"];

/// A [`Checkpoint`] in one small file, with the rows of its query bank.
///
/// Each row of a matrix is rounded to multiples of a [step](Steps), to whole numbers so small that a
/// Huffman code makes about 3.5 bits of a text encoder's. Vectors stay as they are, and batch norms
/// are folded.
///
/// The file is a safetensors file as zlib compresses it: `I8` or `I16` matrices, their steps (`F32`,
/// one for each row) beside them under `NAME.step`, `F32` vectors; in its metadata the [`ModelConfig`], the
/// tokenizer, and the fingerprint of the model as it is read.
#[derive(Clone, Debug)]
pub struct Packed {
    config: ModelConfig,
    tokenizer: String,
    fingerprint: Fingerprint,
    tensors: BTreeMap<String, Stored>,
}

/// What weights are rounded to, in units of the root mean square of their row.
///
/// A step of *s* is noise of 10 log₁₀(12 / *s*²) dB below the weights. It is never so small that a
/// row's largest weight would be more than 127 steps. Rows of at most 32 weights, which the filters of
/// depthwise convolutions are, have a tenth of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Of image encoders, which have more layers for errors to grow in, and of the head.
    pub image: f32,
    /// Of the text encoder, and of the query bank.
    pub text: f32,
}

/// A tensor as the file has it.
#[derive(Clone, Debug)]
enum Stored {
    Whole { shape: Vec<usize>, values: Vec<f32> },
    Rounded { shape: Vec<usize>, numbers: Numbers, steps: Vec<f32> },
}

/// Whole numbers in as few bytes as they need.
#[derive(Clone, Debug)]
enum Numbers {
    I8(Vec<i8>),
    I16(Vec<i16>),
}

/// A tensor of the file: name, type, shape, bytes.
type Part<'a> = (String, Dtype, Vec<usize>, &'a [u8]);

impl Packed {
    /// Packs a model, without a query bank. The errors of rounded weights make up for each other where
    /// layers are given the like of `inputs`, observed while this very model was run; other weights
    /// are rounded to the nearest.
    pub fn new(checkpoint: &Checkpoint, steps: Steps, inputs: &Inputs) -> Self {
        let Checkpoint { config, tokenizer, model } = checkpoint;
        let mut tensors = BTreeMap::new();
        for (name, encoder) in image_names().zip(&model.image) {
            store(&name, encoder.clone().folded(), steps.image, inputs, &mut tensors);
        }
        store(TEXT, model.text.clone(), steps.text, inputs, &mut tensors);
        store(HEAD, model.features.clone(), steps.image, inputs, &mut tensors);
        let (config, tokenizer) = (config.clone(), tokenizer.to_json());
        let fingerprint = Fingerprint::of(["not known yet"]);
        Self { config, tokenizer, fingerprint, tensors }.identified(&device_of(model))
    }

    /// The file with another head of the same shape, its weights rounded to the nearest.
    pub fn with_head(mut self, head: &FeatureModel, step: f32) -> Self {
        store(HEAD, head.clone(), step, &Inputs::default(), &mut self.tensors);
        self.identified(&head.logit_scale.val().device())
    }

    fn identified(mut self, device: &Device) -> Self {
        let rounded = self.checkpoint(device).expect("the tensors of this model");
        self.fingerprint = rounded.fingerprint();
        self
    }

    /// The file with a query bank: embeddings of training pictures and captions by the model as it
    /// is [read](Self::checkpoint).
    ///
    /// # Errors
    /// [`Error::OtherBank`] if another model made them.
    pub fn with_bank(mut self, bank: [&Embeddings; 2], step: f32) -> Result<Self> {
        for (name, rows) in BANK.into_iter().zip(bank) {
            if rows.made_by() != &self.fingerprint {
                let (expected, found) = (self.fingerprint.clone(), rows.made_by().clone());
                return Err(Error::OtherBank { expected, found });
            }
            let shape = vec![rows.rows(), rows.dim()];
            self.tensors.insert(name.into(), rounded(shape, rows.values().to_vec(), step, None));
        }
        Ok(self)
    }

    /// What identifies the embeddings that the model makes, as it is [read](Self::checkpoint).
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The model, its weights in `f32` again and its batch norms folded.
    ///
    /// # Errors
    /// [`Error::OtherModel`], [`Error::OtherShape`] and those of [`ModelConfig::check`] when the
    /// parts of the file don't fit each other.
    pub fn checkpoint(&self, device: &Device) -> Result<Checkpoint> {
        let model = self.config.init(device)?;
        let tokenizer = Tokenizer::from_json(&self.tokenizer, self.config.text.context)?;
        self.config.text.check_tokenizer(&tokenizer)?;
        let image = image_names().zip(model.image);
        let image = image.map(|(name, encoder)| {
            // Folding would have the weights drawn that are to be replaced.
            self.load(&name, ImageEncoder::folded(encoder.map(&mut Zeros)))
        });
        Ok(Checkpoint {
            config: self.config.clone(),
            tokenizer,
            model: Model {
                image: image.collect::<Result<_>>()?,
                text: self.load(TEXT, model.text)?,
                features: self.load(HEAD, model.features)?,
            },
        })
    }

    /// The rows of its query bank: embeddings of training pictures, and of captions. `None` for a
    /// file without.
    pub fn bank(&self) -> Option<[Embeddings; 2]> {
        let rows = |name| {
            let stored = self.tensors.get(name)?;
            let dim = *stored.shape().last()?;
            Some(Embeddings::new(stored.values(), dim, self.fingerprint.clone()))
        };
        Some([rows(BANK[0])?, rows(BANK[1])?])
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content = self.to_safetensors();
        // Chance repetitions of a few bytes cost more than their own codes.
        let flags = create_comp_flags_from_zip_params(9, 15, CompressionStrategy::Filtered as i32);
        let mut bytes = vec![0; content.len() + content.len() / 8 + 1024];
        let mut compressor = CompressorOxide::new(flags);
        let done = deflate(&mut compressor, &content, &mut bytes, MZFlush::Finish);
        assert_eq!(done.status, Ok(MZStatus::StreamEnd), "room for all of it");
        bytes.truncate(done.bytes_written);
        bytes
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// [`Error::NotPacked`] when it isn't one, or not whole.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::NotPacked { why };
        let content = decompress_to_vec_zlib_with_limit(bytes, LARGEST);
        let content = content.map_err(|e| bad(e.to_string()))?;
        Self::from_safetensors(&content).map_err(bad)
    }

    fn to_safetensors(&self) -> Vec<u8> {
        let json = |value: &ModelConfig| serde_json::to_string(value).expect("string keys");
        let metadata = HashMap::from(
            [
                ("format", FORMAT.into()),
                ("config", json(&self.config)),
                ("tokenizer", self.tokenizer.clone()),
                ("fingerprint", self.fingerprint.as_str().into()),
            ]
            .map(|(name, value): (&str, String)| (name.to_owned(), value)),
        );
        let parts: Vec<_> =
            self.tensors.iter().flat_map(|(name, stored)| stored.parts(name)).collect();
        let views = parts.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (name, view.expect("as many bytes as the shape says"))
        });
        safetensors::serialize(views, Some(metadata)).expect("written to memory")
    }

    fn from_safetensors(content: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(content).map_err(|e| e.to_string())?;
        let texts = header.metadata().clone().unwrap_or_default();
        let text = |name: &str| texts.get(name).cloned().ok_or(format!("it has no `{name}`"));
        match text("format")? {
            format if format == FORMAT => {}
            format => return Err(format!("its format is {format}; this program reads {FORMAT}")),
        }
        let file = SafeTensors::deserialize(content).map_err(|e| e.to_string())?;
        let matrices = file.iter().filter(|(name, _)| !name.ends_with(STEP));
        let tensors =
            matrices.map(|(name, view)| Ok((name.to_owned(), Stored::read(&file, name, &view)?)));
        Ok(Self {
            config: serde_json::from_str(&text("config")?).map_err(|e| e.to_string())?,
            tokenizer: text("tokenizer")?,
            fingerprint: text("fingerprint")?.into(),
            tensors: tensors.collect::<Result<_, String>>()?,
        })
    }

    fn load<M: Module>(&self, part: &str, module: M) -> Result<M> {
        let own = self.tensors.iter().filter_map(|(name, stored)| {
            Some((name.strip_prefix(part)?.strip_prefix('/')?.to_owned(), stored))
        });
        let entries = own.collect::<Vec<_>>().into_par_iter().map(|(name, stored)| {
            let shape = Shape::from(stored.shape().to_vec());
            let bytes = Bytes::from_elems(stored.values());
            (name.clone(), Entry::new(name, DType::F32, shape, None, bytes))
        });
        let format = Format {
            model: "the model in its configuration",
            rename: str::to_owned,
            ignored: |_| false,
            layout: Layout::Burn,
        };
        let path = PathBuf::from(format!("{part} of the packed model"));
        WeightsFile::of(path, entries.collect()).load(module, &format)
    }
}

/// Makes all weights 0, without looking at what they were.
struct Zeros;

impl ModuleMapper for Zeros {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, device) = (param.lazy_shape(), param.lazy_device());
        Param::initialized(param.id, Tensor::zeros(shape, &device))
    }
}

const TEXT: &str = "text";
const HEAD: &str = "head";

fn image_names() -> impl Iterator<Item = String> {
    (0..).map(|i| format!("image-{i}"))
}

/// Adds the tensors of a module, under names that begin with `part`.
fn store(
    part: &str,
    module: impl Module,
    step: f32,
    inputs: &Inputs,
    to: &mut BTreeMap<String, Stored>,
) {
    let tensors = module.collect(None, None, false).into_par_iter().map(|tensor| {
        let (name, _, shape, id, bytes) = tensor.into_parts().expect("tensors in memory");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let shape = shape.to_vec();
        let stored = match shape.len() {
            1 => Stored::Whole { shape, values },
            _ => rounded(shape, values, step, id.and_then(|id| inputs.of(id.into()))),
        };
        (format!("{part}/{name}"), stored)
    });
    to.par_extend(tensors);
}

/// Rows as multiples of a step that is so many times the row's root mean square, rounded for the mean
/// products of a layer's inputs where they are known.
fn rounded(shape: Vec<usize>, weights: Vec<f32>, step: f32, inputs: Option<Array2<f64>>) -> Stored {
    let width = shape[1..].iter().product();
    let weights = Array2::from_shape_vec((shape[0], width), weights).expect("as the shape says");
    let (step, most) =
        if width > SHORT { (step, i8::MAX.into()) } else { (step / FINER, i16::MAX) };
    let steps = weights.rows().into_iter().map(|row| step_of(row, step, most));
    let steps: Array1<f32> = steps.collect();
    let all_steps = steps.view().insert_axis(Axis(1));
    let all_steps = all_steps.broadcast(weights.dim()).expect("one for each row");
    let numbers = match inputs {
        None => rounding::nearest(weights.view(), all_steps),
        // A convolution's rows are its outputs, a linear layer's its inputs.
        Some(inputs) if shape.len() == 4 => {
            rounding::for_inputs(weights.t(), all_steps.t(), &inputs, most).reversed_axes()
        }
        Some(inputs) => rounding::for_inputs(weights.view(), all_steps, &inputs, most),
    };
    let numbers = Numbers::narrowest(numbers.iter().copied().collect());
    Stored::Rounded { shape, numbers, steps: steps.to_vec() }
}

fn step_of(row: ArrayView1<f32>, step: f32, most: i16) -> f32 {
    let rms = (row.dot(&row) / row.len() as f32).sqrt();
    let largest = row.fold(0f32, |largest, x| largest.max(x.abs()));
    f32::max(step * rms, largest / f32::from(most))
}

impl Stored {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Whole { shape, .. } | Self::Rounded { shape, .. } => shape,
        }
    }

    fn values(&self) -> Vec<f32> {
        match self {
            Self::Whole { values, .. } => values.clone(),
            Self::Rounded { numbers, steps, .. } => numbers.times(steps),
        }
    }

    /// The tensors of the file that this is.
    fn parts(&self, name: &str) -> Vec<Part<'_>> {
        let name = name.to_owned();
        match self {
            Self::Whole { shape, values } => {
                vec![(name, Dtype::F32, shape.clone(), bytemuck::cast_slice(values))]
            }
            Self::Rounded { shape, numbers, steps } => {
                let (dtype, bytes) = numbers.bytes();
                let of_steps = bytemuck::cast_slice(steps);
                vec![
                    (name.clone() + STEP, Dtype::F32, vec![steps.len()], of_steps),
                    (name, dtype, shape.clone(), bytes),
                ]
            }
        }
    }

    fn read(file: &SafeTensors, name: &str, view: &TensorView) -> Result<Self, String> {
        let shape = view.shape().to_vec();
        let floats = |view: &TensorView| bytemuck::pod_collect_to_vec(view.data());
        match view.dtype() {
            Dtype::F32 => Ok(Self::Whole { shape, values: floats(view) }),
            Dtype::I8 | Dtype::I16 => {
                let steps = file.tensor(&format!("{name}{STEP}")).map_err(|e| e.to_string())?;
                let fits = steps.dtype() == Dtype::F32 && shape.first() == steps.shape().first();
                if !fits || view.data().is_empty() {
                    return Err(format!("`{name}` hasn't a step for each row"));
                }
                let numbers = match view.dtype() {
                    Dtype::I8 => Numbers::I8(bytemuck::cast_slice(view.data()).to_vec()),
                    _ => Numbers::I16(bytemuck::pod_collect_to_vec(view.data())),
                };
                Ok(Self::Rounded { shape, numbers, steps: floats(&steps) })
            }
            other => Err(format!("`{name}` is of type {other:?}; expected I8, I16 or F32")),
        }
    }
}

impl Numbers {
    fn narrowest(numbers: Vec<i16>) -> Self {
        let small = numbers.iter().map(|&number| i8::try_from(number));
        small.collect::<Result<_, _>>().map_or_else(|_| Self::I16(numbers), Self::I8)
    }

    fn bytes(&self) -> (Dtype, &[u8]) {
        match self {
            Self::I8(numbers) => (Dtype::I8, bytemuck::cast_slice(numbers)),
            Self::I16(numbers) => (Dtype::I16, bytemuck::cast_slice(numbers)),
        }
    }

    /// The values: rows of as many numbers as there are for each step, times it.
    fn times(&self, steps: &[f32]) -> Vec<f32> {
        match self {
            Self::I8(numbers) => times(numbers, steps),
            Self::I16(numbers) => times(numbers, steps),
        }
    }
}

fn times<T: Copy + Into<f32>>(numbers: &[T], steps: &[f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(numbers.len());
    for (row, step) in numbers.chunks_exact(numbers.len() / steps.len()).zip(steps) {
        values.extend(row.iter().map(|&number| number.into() * step));
    }
    values
}

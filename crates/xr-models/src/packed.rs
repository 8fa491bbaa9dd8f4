//! A model in one small file, to be sent along or built into a program.

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
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use xr_data::{Embeddings, Fingerprint, Tokenizer};

use crate::{
    Checkpoint, Error, Model, ModelConfig, Result,
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
/// Names of the query bank's rows.
const BANK: [&str; 2] = ["bank/pictures", "bank/captions"];

/// A [`Checkpoint`] in one small file, with the rows of its query bank.
///
/// Each row of a matrix is rounded to multiples of a [step](Steps), to whole numbers so small that a
/// Huffman code makes about 3.5 bits of a text encoder's. Vectors stay as they are, and batch norms
/// are folded.
///
/// The file is a safetensors file as zlib compresses it: `I8` matrices, their steps (`F32`, one for
/// each row) beside them under `NAME.step`, `F32` vectors; in its metadata the [`ModelConfig`], the
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
/// row's largest weight would be more than 127 steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Of image encoders, whose features are far more sensitive, and of the head.
    pub image: f32,
    /// Of the text encoder, and of the query bank.
    pub text: f32,
}

/// A tensor as the file has it.
#[derive(Clone, Debug)]
enum Stored {
    Whole { shape: Vec<usize>, values: Vec<f32> },
    Rounded { shape: Vec<usize>, values: Vec<i8>, steps: Vec<f32> },
}

impl Packed {
    /// Packs a model, without a query bank.
    pub fn new(checkpoint: &Checkpoint, steps: Steps) -> Self {
        let Checkpoint { config, tokenizer, model } = checkpoint;
        let mut tensors = BTreeMap::new();
        for (name, encoder) in image_names().zip(&model.image) {
            store(&name, encoder.clone().folded(), steps.image, &mut tensors);
        }
        store(TEXT, model.text.clone(), steps.text, &mut tensors);
        store(HEAD, model.features.clone(), steps.image, &mut tensors);
        let (config, tokenizer) = (config.clone(), tokenizer.to_json());
        let fingerprint = Fingerprint::of(["not known yet"]);
        let mut packed = Self { config, tokenizer, fingerprint, tensors };
        let rounded = packed.checkpoint(&device_of(model)).expect("the tensors of this model");
        packed.fingerprint = rounded.fingerprint();
        packed
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
            self.tensors.insert(name.into(), rounded(shape, rows.values(), step));
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
fn store(part: &str, module: impl Module, step: f32, to: &mut BTreeMap<String, Stored>) {
    for tensor in module.collect(None, None, false) {
        let (name, _, shape, _, bytes) = tensor.into_parts().expect("tensors in memory");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let shape = shape.to_vec();
        let stored = match shape.len() {
            1 => Stored::Whole { shape, values },
            _ => rounded(shape, &values, step),
        };
        to.insert(format!("{part}/{name}"), stored);
    }
}

/// Rows as multiples of a step that is so many times the row's root mean square.
fn rounded(shape: Vec<usize>, values: &[f32], step: f32) -> Stored {
    let width = shape[1..].iter().product();
    let rms = |row: &[f32]| (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32).sqrt();
    let most = |row: &[f32]| row.iter().fold(0f32, |most, x| most.max(x.abs()));
    let steps: Vec<f32> = values
        .chunks_exact(width)
        .map(|row| f32::max(step * rms(row), most(row) / 127.0))
        .collect();
    let rows = values.chunks_exact(width).zip(&steps);
    // A row of zeros has a step of zero, and 0/0 becomes 0.
    let values = rows.flat_map(|(row, step)| row.iter().map(move |x| (x / step).round() as i8));
    Stored::Rounded { shape, values: values.collect(), steps }
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
            Self::Rounded { values, steps, .. } => {
                let mut whole = Vec::with_capacity(values.len());
                for (row, step) in values.chunks_exact(values.len() / steps.len()).zip(steps) {
                    whole.extend(row.iter().map(|&x| f32::from(x) * step));
                }
                whole
            }
        }
    }

    /// The tensors of the file that this is: name, type, shape, bytes.
    fn parts(&self, name: &str) -> Vec<(String, Dtype, Vec<usize>, &[u8])> {
        let name = name.to_owned();
        match self {
            Self::Whole { shape, values } => {
                vec![(name, Dtype::F32, shape.clone(), bytemuck::cast_slice(values))]
            }
            Self::Rounded { shape, values, steps } => vec![
                (name.clone() + STEP, Dtype::F32, vec![steps.len()], bytemuck::cast_slice(steps)),
                (name, Dtype::I8, shape.clone(), bytemuck::cast_slice(values)),
            ],
        }
    }

    fn read(file: &SafeTensors, name: &str, view: &TensorView) -> Result<Self, String> {
        let shape = view.shape().to_vec();
        let floats = |view: &TensorView| bytemuck::pod_collect_to_vec(view.data());
        match view.dtype() {
            Dtype::F32 => Ok(Self::Whole { shape, values: floats(view) }),
            Dtype::I8 => {
                let steps = file.tensor(&format!("{name}{STEP}")).map_err(|e| e.to_string())?;
                let fits = steps.dtype() == Dtype::F32 && shape.first() == steps.shape().first();
                if !fits || view.data().is_empty() {
                    return Err(format!("`{name}` hasn't a step for each row"));
                }
                let values = bytemuck::cast_slice(view.data()).to_vec();
                Ok(Self::Rounded { shape, values, steps: floats(&steps) })
            }
            other => Err(format!("`{name}` is of type {other:?}; expected I8 or F32")),
        }
    }
}

//! Files of weights: found, read, and moved into a module without anything left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    store::{
        BurnToPyTorchAdapter, BurnpackStore, FloatCastAdapter, IdentityAdapter, ModuleAdapter,
        ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter, PytorchStore, SafetensorsStore,
        burn_pack::Tensor as Entry,
    },
    tensor::{Bytes, DType},
};

use crate::{Error, Result};

/// The tensors of a file, by the names they have there. Their values are read when needed.
pub(crate) struct WeightsFile {
    path: PathBuf,
    tensors: BTreeMap<String, Entry>,
}

/// How a module's tensors and a file's correspond.
pub(crate) struct Format {
    /// What the weights should be of, for errors.
    pub(crate) model: &'static str,
    /// Name in the file of the module's tensor of this name.
    pub(crate) rename: fn(&str) -> String,
    /// Tensors of the file that the module has no use for.
    pub(crate) ignored: fn(&str) -> bool,
    /// Whose conventions the file follows.
    pub(crate) layout: Layout,
}

/// Whose conventions a file follows.
pub(crate) enum Layout {
    /// Linear weights are `[out, in]`, norms have `weight` and `bias`.
    PyTorch,
    /// Linear weights are `[in, out]`, norms have `gamma` and `beta`, and names tell variants.
    Burn,
}

impl WeightsFile {
    /// Opens a `.safetensors`, `.pth` or `.pt` file, or the only such file in a folder or below.
    ///
    /// # Errors
    /// [`xr_data::Error::Io`] when it can't be opened, [`Error::NoWeights`] and [`Error::SeveralWeights`] for a folder, [`Error::BadWeights`] for
    /// a file that can't be read.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = find(path)?;
        fs::File::open(&path).map_err(|source| io(&path, source))?;
        let tensors = if is(&path, "safetensors") {
            tensors_of(SafetensorsStore::from_file(&path))
        } else {
            tensors_of(PytorchStore::from_file(&path).map_indices_contiguous(false))
        };
        Self::new(path, tensors)
    }

    /// The content of a burnpack file.
    ///
    /// # Errors
    /// [`Error::BadWeights`] when it isn't one.
    pub(crate) fn burnpack(path: PathBuf, content: Vec<u8>) -> Result<Self> {
        let content = Bytes::from_bytes_vec(content);
        Self::new(path, tensors_of(BurnpackStore::from_bytes(Some(content))))
    }

    fn new(path: PathBuf, tensors: Result<BTreeMap<String, Entry>, String>) -> Result<Self> {
        match tensors {
            Ok(tensors) => Ok(Self { path, tensors }),
            Err(why) => Err(Error::BadWeights { path, why }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same tensors under other names.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        let tensors = self.tensors.into_iter().map(|(name, t)| (rename(&name), t)).collect();
        Self { tensors, ..self }
    }

    /// In how many tensors the file and the module differ.
    pub(crate) fn differences<M: Module>(&self, module: &M, format: &Format) -> usize {
        let c = self.compare(&expected(module, format), format);
        c.missing.len() + c.unexpected.len() + c.other_shape.len()
    }

    /// The module with its weights replaced by the file's, as `f32`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] unless the file has every tensor of the module and no other;
    /// [`Error::OtherShape`] when one has another shape; [`Error::BadWeights`] when one can't be
    /// read.
    pub(crate) fn load<M: Module>(&self, mut module: M, format: &Format) -> Result<M> {
        let expected = expected(&module, format);
        self.check(&expected, format)?;
        let renamed = expected.into_iter().map(|(name, ours)| {
            let mut tensor = self.tensors[&name].clone();
            tensor.name = ours.name;
            tensor
        });
        let (skip_variants, _, adapter) = format.layout.conventions();
        let result = module.apply(renamed.collect(), None, Some(adapter), skip_variants);
        match result.errors.first() {
            None => Ok(module),
            Some(why) => Err(Error::BadWeights { path: self.path.clone(), why: why.to_string() }),
        }
    }

    fn check(&self, expected: &BTreeMap<String, Entry>, format: &Format) -> Result<()> {
        let (path, model) = (self.path.clone(), format.model);
        let Comparison { missing, unexpected, other_shape } = self.compare(expected, format);
        if !missing.is_empty() || !unexpected.is_empty() {
            return Err(Error::OtherModel { path, model, missing, unexpected });
        }
        match other_shape.into_iter().next() {
            None => Ok(()),
            Some(tensor) => Err(Error::OtherShape {
                path,
                model,
                expected: expected[&tensor].shape.to_vec(),
                found: self.tensors[&tensor].shape.to_vec(),
                tensor,
            }),
        }
    }

    fn compare(&self, expected: &BTreeMap<String, Entry>, format: &Format) -> Comparison {
        let wanted: BTreeSet<_> = expected.keys().collect();
        let found: BTreeSet<_> = self.tensors.keys().collect();
        let used = |name: &&String| !(format.ignored)(name);
        let other_shape = |name: &&String| expected[*name].shape != self.tensors[*name].shape;
        Comparison {
            missing: wanted.difference(&found).copied().cloned().collect(),
            unexpected: found.difference(&wanted).copied().filter(used).cloned().collect(),
            other_shape: wanted.intersection(&found).copied().filter(other_shape).cloned().collect(),
        }
    }
}

struct Comparison {
    missing: Vec<String>,
    unexpected: Vec<String>,
    other_shape: Vec<String>,
}

impl Layout {
    /// Are enum variants left out of names; what turns a module's tensors into a file's, and back.
    fn conventions(&self) -> (bool, Box<dyn ModuleAdapter>, Box<dyn ModuleAdapter>) {
        let as_f32 = FloatCastAdapter::to(DType::F32);
        match self {
            Self::PyTorch => {
                let back = PyTorchToBurnAdapter.chain(as_f32);
                (true, Box::new(BurnToPyTorchAdapter), Box::new(back))
            }
            Self::Burn => (false, Box::new(IdentityAdapter), Box::new(as_f32)),
        }
    }
}

/// The module's tensors as the file should have them, by the names they should have there.
fn expected<M: Module>(module: &M, format: &Format) -> BTreeMap<String, Entry> {
    let (skip_variants, adapter, _) = format.layout.conventions();
    let tensors = module.collect(None, Some(adapter), skip_variants);
    tensors.into_iter().map(|tensor| ((format.rename)(&tensor.name), tensor)).collect()
}

fn tensors_of<S: ModuleStore>(mut store: S) -> Result<BTreeMap<String, Entry>, String> {
    store.get_all_tensors().cloned().map_err(|e| e.to_string())
}

/// The file itself, or the only weights file in a folder or below.
fn find(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let mut found = Vec::new();
    collect_weights(path, &mut found)?;
    found.sort();
    match found.len() {
        0 => Err(Error::NoWeights { path: path.into() }),
        1 => Ok(found.remove(0)),
        _ => Err(Error::SeveralWeights { path: path.into(), found }),
    }
}

fn collect_weights(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| io(folder, e))? {
        let entry = entry.map_err(|e| io(folder, e))?;
        let path = entry.path();
        // The entry's own type: a link to a folder above would never end.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_weights(&path, found)?;
        } else if ["safetensors", "pth", "pt"].iter().any(|kind| is(&path, kind)) {
            found.push(path);
        }
    }
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> xr_data::Error {
    xr_data::Error::Io { path: path.into(), source }
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

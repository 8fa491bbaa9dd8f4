//! Files of published weights: found, read, and moved into a module without anything left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    store::{
        BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, ModuleStore,
        PyTorchToBurnAdapter, PytorchStore, SafetensorsStore, burn_pack::Tensor as Entry,
    },
    tensor::DType,
};

use crate::{Error, Result};

/// The tensors of a file, by the names they have there. Their values are read when needed.
pub(crate) struct WeightsFile {
    path: PathBuf,
    tensors: BTreeMap<String, Entry>,
}

/// How a module's tensors and a file's correspond, after PyTorch's conventions are accounted for
/// (transposed linear weights, norms with `weight` and `bias`).
pub(crate) struct Published {
    /// What the weights should be of, for errors.
    pub(crate) model: &'static str,
    /// Name in the file of the module's tensor of this name.
    pub(crate) rename: fn(&str) -> String,
    /// Tensors of the file that a retrieval encoder has no use for.
    pub(crate) ignored: fn(&str) -> bool,
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
        let tensors = tensors.map_err(|why| Error::BadWeights { path: path.clone(), why })?;
        Ok(Self { path, tensors })
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
    pub(crate) fn differences<M: Module>(&self, module: &M, published: &Published) -> usize {
        let c = self.compare(&expected(module, published), published);
        c.missing.len() + c.unexpected.len() + c.other_shape.len()
    }

    /// The module with its weights replaced by the file's, as `f32`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] unless the file has every tensor of the module and no other;
    /// [`Error::OtherShape`] when one has another shape; [`Error::BadWeights`] when one can't be
    /// read.
    pub(crate) fn load<M: Module>(&self, mut module: M, published: &Published) -> Result<M> {
        let expected = expected(&module, published);
        self.check(&expected, published)?;
        let renamed = expected.into_iter().map(|(name, ours)| {
            let mut tensor = self.tensors[&name].clone();
            tensor.name = ours.name;
            tensor
        });
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
        let result = module.apply(renamed.collect(), None, Some(Box::new(adapter)), true);
        match result.errors.first() {
            None => Ok(module),
            Some(why) => Err(Error::BadWeights { path: self.path.clone(), why: why.to_string() }),
        }
    }

    fn check(&self, expected: &BTreeMap<String, Entry>, published: &Published) -> Result<()> {
        let (path, model) = (self.path.clone(), published.model);
        let Comparison { missing, unexpected, other_shape } = self.compare(expected, published);
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

    fn compare(&self, expected: &BTreeMap<String, Entry>, published: &Published) -> Comparison {
        let wanted: BTreeSet<_> = expected.keys().collect();
        let found: BTreeSet<_> = self.tensors.keys().collect();
        let used = |name: &&String| !(published.ignored)(name);
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

/// The module's tensors as PyTorch would have them, by the names they should have in the file.
fn expected<M: Module>(module: &M, published: &Published) -> BTreeMap<String, Entry> {
    let tensors = module.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    tensors.into_iter().map(|tensor| ((published.rename)(&tensor.name), tensor)).collect()
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

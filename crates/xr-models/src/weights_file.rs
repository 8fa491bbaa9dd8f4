//! Files of weights: found, read, and moved into a module without anything left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    store::{
        BurnToPyTorchAdapter, BurnpackStore, FloatCastAdapter, IdentityAdapter, ModuleAdapter,
        ModuleContext, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter, PytorchStore,
        SafetensorsStore, bridge,
        burn_pack::{self, Tensor as Entry},
    },
    tensor::{Bool, Bytes, DType, Int, Shape, Tensor},
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

    /// These tensors, by their names; `path` is what errors call them.
    pub(crate) fn of(path: PathBuf, tensors: BTreeMap<String, Entry>) -> Self {
        Self { path, tensors }
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
        let c = self.compare(&Outline::of(module, format), format);
        c.missing.len() + c.unexpected.len() + c.other_shape.len()
    }

    /// The module with its weights replaced by the file's, as `f32`.
    ///
    /// # Errors
    /// [`Error::OtherModel`] unless the file has every tensor of the module and no other;
    /// [`Error::OtherShape`] when one has another shape; [`Error::BadWeights`] when one can't be
    /// read.
    pub(crate) fn load<M: Module>(mut self, mut module: M, format: &Format) -> Result<M> {
        let expected = Outline::of(&module, format);
        self.check(&expected, format)?;
        let renamed = expected.into_iter().map(|(name, expected)| {
            // Moved, not copied: its bytes become the module's.
            let mut tensor = self.tensors.remove(&name).expect("checked above");
            tensor.name = expected.ours;
            tensor
        });
        let (adapter, skips) = (format.layout.reading(), format.layout.skips_variants());
        let renamed = renamed.collect();
        let result = module.apply(renamed, None, Some(adapter), skips);
        match result.errors.first() {
            None => Ok(module),
            Some(why) => Err(Error::BadWeights { path: self.path, why: why.to_string() }),
        }
    }

    fn check(&self, expected: &BTreeMap<String, Expected>, format: &Format) -> Result<()> {
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

    fn compare(&self, expected: &BTreeMap<String, Expected>, format: &Format) -> Comparison {
        let wanted: BTreeSet<_> = expected.keys().collect();
        let found: BTreeSet<_> = self.tensors.keys().collect();
        let used = |name: &&String| !(format.ignored)(name);
        let other_shape = |name: &&String| expected[*name].shape != self.tensors[*name].shape;
        Comparison {
            missing: wanted.difference(&found).copied().cloned().collect(),
            unexpected: found.difference(&wanted).copied().filter(used).cloned().collect(),
            other_shape: wanted
                .intersection(&found)
                .copied()
                .filter(other_shape)
                .cloned()
                .collect(),
        }
    }
}

struct Comparison {
    missing: Vec<String>,
    unexpected: Vec<String>,
    other_shape: Vec<String>,
}

impl Layout {
    /// Are enum variants left out of names?
    fn skips_variants(&self) -> bool {
        matches!(self, Self::PyTorch)
    }

    /// What turns a module's tensors into a file's.
    fn writing(&self) -> Box<dyn ModuleAdapter> {
        match self {
            Self::PyTorch => Box::new(BurnToPyTorchAdapter),
            Self::Burn => Box::new(IdentityAdapter),
        }
    }

    /// What turns a file's tensors into a module's.
    fn reading(&self) -> Box<dyn ModuleAdapter> {
        let as_f32 = FloatCastAdapter::to(DType::F32);
        match self {
            Self::PyTorch => Box::new(PyTorchToBurnAdapter.chain(as_f32)),
            Self::Burn => Box::new(as_f32),
        }
    }
}

/// Finds a module's tensors, by their shapes alone: the random weights of a new module are drawn
/// when they are first looked at, and those that a file will replace needn't be.
struct Outline<'a> {
    format: &'a Format,
    path: Vec<String>,
    containers: Vec<String>,
    tensors: BTreeMap<String, Expected>,
}

/// A tensor that a file should have.
struct Expected {
    /// Its name in the module.
    ours: String,
    /// Its shape in the file.
    shape: Shape,
}

impl Outline<'_> {
    fn of<M: Module>(module: &M, format: &Format) -> BTreeMap<String, Expected> {
        let (path, containers, tensors) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut outline = Outline { format, path, containers, tensors };
        module.visit(&mut outline);
        outline.tensors
    }

    fn add(&mut self, shape: Shape) {
        let valueless = || Err(burn_pack::Error::ValidationError("only its shape".into()));
        let entry = bridge::deferred(self.path.join("."), DType::F32, shape, None, valueless);
        let layout = &self.format.layout;
        let entry = layout.writing().adapt(entry, ModuleContext::new(&self.containers));
        let expected = Expected { ours: entry.name, shape: entry.shape };
        self.tensors.insert((self.format.rename)(&expected.ours), expected);
    }

    fn is_named(&self, container: &str) -> bool {
        !(self.format.layout.skips_variants() && container.starts_with("Enum:"))
    }
}

impl ModuleVisitor for Outline<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.into());
        if self.is_named(container) {
            self.path.push(name.into());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.containers.pop();
        if self.is_named(container) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.lazy_shape());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.lazy_shape());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.lazy_shape());
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use burn::{nn::LinearConfig, tensor::Device};
    use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

    use super::*;
    use crate::weights_fingerprint;

    /// Writes a module's tensors as they would be published, each first changed by `change`.
    pub(crate) fn publish<M: Module>(
        module: &M,
        format: &Format,
        path: &Path,
        mut change: impl FnMut(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>),
    ) {
        let adapter = format.layout.writing();
        let tensors = module.collect(None, Some(adapter), true).into_iter().map(|tensor| {
            let bytes = tensor.to_bytes().unwrap().to_vec();
            ((format.rename)(&tensor.name), (tensor.shape.to_vec(), bytes))
        });
        let mut tensors = tensors.collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            let elements: usize = shape.iter().product();
            let dtype = if bytes.len() == 2 * elements { Dtype::F16 } else { Dtype::F32 };
            (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        serialize_to_file(views, None, path).unwrap();
    }

    fn format() -> Format {
        Format {
            model: "a linear map",
            rename: |ours| format!("fc.{ours}"),
            ignored: |name| name == "step",
            layout: Layout::PyTorch,
        }
    }

    fn linear() -> burn::nn::Linear {
        LinearConfig::new(2, 3).init(&Device::flex())
    }

    /// What loading the file that `change` made says.
    fn error(change: impl FnMut(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("linear.safetensors");
        publish(&linear(), &format(), &path, change);
        let error = WeightsFile::open(&path).unwrap().load(linear(), &format()).unwrap_err();
        error.to_string().replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn loaded_as_published() {
        let folder = tempfile::tempdir().unwrap();
        let published = linear();
        publish(&published, &format(), &folder.path().join("a.safetensors"), |tensors| {
            assert_eq!(tensors["fc.weight"].0, [3, 2], "PyTorch has it [out, in]");
            tensors.insert("step".into(), (vec![], vec![0; 4]));
        });
        // By its folder, as there is no other.
        let loaded = WeightsFile::open(folder.path()).unwrap().load(linear(), &format()).unwrap();
        assert_eq!(weights_fingerprint(&loaded), weights_fingerprint(&published));
        assert_ne!(weights_fingerprint(&loaded), weights_fingerprint(&linear()));
    }

    #[test]
    fn half_precision_becomes_single() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        publish(&linear(), &format(), &path, |tensors| {
            // 1.0 is 0x3c00.
            tensors.values_mut().for_each(|(_, bytes)| *bytes = [0, 0x3c].repeat(bytes.len() / 4));
        });
        let loaded = WeightsFile::open(&path).unwrap().load(linear(), &format()).unwrap();
        let bias = loaded.bias.unwrap().val().into_data();
        assert_eq!(bias.as_slice::<f32>().unwrap(), [1.0; 3]);
    }

    #[test]
    fn another_model() {
        assert_eq!(
            error(|tensors| {
                let weight = tensors.remove("fc.weight").unwrap();
                tensors.insert("conv1.weight".into(), weight.clone());
                tensors.insert("conv2.weight".into(), weight);
            }),
            "FILE: not the weights of a linear map: 1 missing, the first is `fc.weight`; \
             2 unexpected, the first is `conv1.weight`"
        );
        assert_eq!(
            error(|tensors| drop(tensors.remove("fc.bias"))),
            "FILE: not the weights of a linear map: 1 missing, the first is `fc.bias`"
        );
    }

    #[test]
    fn another_shape() {
        assert_eq!(
            error(|tensors| tensors.get_mut("fc.weight").unwrap().0 = vec![2, 3]),
            "FILE: not the weights of a linear map: `fc.weight` should have the shape [3, 2], but \
             has [2, 3]"
        );
    }

    #[test]
    fn no_file() {
        let error = WeightsFile::open(Path::new("/no/such.pth")).err().unwrap().to_string();
        assert_eq!(error, "/no/such.pth: No such file or directory (os error 2)");
    }

    #[test]
    fn no_weights_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("README"), "").unwrap();
        assert_eq!(
            WeightsFile::open(folder.path()).err().unwrap().to_string(),
            format!(
                "{}: no weights in this folder or below; expected a .safetensors, .pth or .pt file",
                folder.path().display()
            )
        );
    }

    #[test]
    fn several_weights_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a/models/x.pth", "b/y.SafeTensors"].map(|name| folder.path().join(name));
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        assert_eq!(
            WeightsFile::open(folder.path()).err().unwrap().to_string(),
            format!(
                "{}: several weights files, name one of them: {}, {}",
                folder.path().display(),
                files[0].display(),
                files[1].display()
            )
        );
    }

    #[test]
    fn files_that_are_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.safetensors");
        publish(&linear(), &format(), &whole, |_| ());
        let bytes = fs::read(&whole).unwrap();
        for (name, content) in [
            ("cut.safetensors", &bytes[..bytes.len() - 1]),
            ("empty.safetensors", &[]),
            ("text.pth", b"<html>404 Not Found</html>"),
            ("empty.pth", &[]),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            let error = WeightsFile::open(&path).err().unwrap().to_string();
            let start = format!("{}: not a whole file of weights (", path.display());
            let end = "); get the file again from where it came from";
            assert!(error.starts_with(&start) && error.ends_with(end), "{error}");
        }
    }
}

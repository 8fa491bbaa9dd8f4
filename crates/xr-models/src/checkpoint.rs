use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    tensor::{Bytes, Device},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xr_data::{Fingerprint, Tokenizer, atomic};

use crate::{
    Error, Model, ModelConfig, Result,
    fingerprint::weights_fingerprint,
    weights_file::{Format, Layout, WeightsFile},
};

const MANIFEST: &str = "checkpoint.json";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TEXT: &str = "text.bpk";
const HEAD: &str = "head.bpk";

/// The format written, and the newest that can be read.
const FORMAT: u32 = 1;

/// A model with all it takes to use it: configuration (preprocessing included), tokenizer, weights.
///
/// On disk it is a folder that needs nothing else:
///
/// | file | what |
/// |---|---|
/// | `config.json` | the [`ModelConfig`] |
/// | `tokenizer.json` | the tokenizer |
/// | `image-0.bpk`, `image-1.bpk`, … | weights of each image encoder |
/// | `text.bpk` | weights of the text encoder |
/// | `head.bpk` | head, temperature, and statistics of the features |
/// | `checkpoint.json` | format, fingerprint, and the SHA-256 of every file |
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What the model is.
    pub config: ModelConfig,
    /// What cuts its texts into tokens.
    pub tokenizer: Tokenizer,
    /// The model.
    pub model: Model,
}

/// `checkpoint.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    fingerprint: Fingerprint,
    files: BTreeMap<String, File>,
}

/// What of `checkpoint.json` every format has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct File {
    sha256: String,
    /// Of the tensors in it, whatever their identifiers: equal weights needn't be written twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<Fingerprint>,
}

impl Checkpoint {
    /// What identifies the embeddings this model makes: its configuration, tokenizer and weights.
    ///
    /// Computed from all weights each time.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.config_json(), &self.tokenizer.to_json(), &self.weights())
    }

    /// Writes the folder `dir`, replacing a checkpoint that is there. The folder appears when it
    /// is complete; a save that fails or is killed leaves the earlier one.
    ///
    /// Encoders that are the same in the earlier checkpoint aren't written again.
    ///
    /// # Errors
    /// [`xr_data::Error::Io`] when it can't be written; [`Error::NotReplaced`] when `dir` is a
    /// folder of something else.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.save_sharing(dir, dir)
    }

    /// [`save`](Self::save), taking files of equal weights from the checkpoint `earlier`, if there
    /// is one, by hard link: where only the head is trained, an epoch's checkpoint writes only the
    /// head.
    ///
    /// # Errors
    /// As for [`save`](Self::save).
    pub fn save_sharing(&self, dir: &Path, earlier: &Path) -> Result<()> {
        refuse_other_folders(dir)?;
        let partial = dir.with_added_extension("tmp");
        let saved = remove(&partial)
            .and_then(|()| fs::create_dir_all(&partial).map_err(|e| io(&partial, e)))
            .and_then(|()| self.write(&partial, &existing(earlier)))
            .and_then(|()| replace(dir, &partial));
        if saved.is_err() {
            // The first error is the one to report.
            let _ = remove(&partial);
        }
        saved
    }

    /// Loads the folder `dir` after checking that it is what was saved.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`], [`Error::NewerCheckpoint`], [`Error::BadManifest`] for the
    /// folder; [`Error::FileMissing`] and [`Error::FileAltered`] for one of its files;
    /// [`Error::BadModelConfig`], those of [`ModelConfig::check`], [`Error::UnknownTokens`],
    /// [`Error::OtherModel`] and [`Error::OtherShape`] when they don't fit each other.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let dir = existing(dir);
        let manifest = Manifest::read(&dir)?;
        let config_json = manifest.text(&dir, CONFIG)?;
        let tokenizer_json = manifest.text(&dir, TOKENIZER)?;
        manifest.check_fingerprint(&dir, &config_json, &tokenizer_json)?;
        let config = parse_config(&dir.join(CONFIG), &config_json)?;
        let tokenizer = Tokenizer::from_json(&tokenizer_json, config.text.context)?;
        config.text.check_tokenizer(&tokenizer)?;
        let model = load_weights(&manifest, &dir, config.init(device)?)?;
        Ok(Self { config, tokenizer, model })
    }

    fn write(&self, dir: &Path, earlier: &Path) -> Result<()> {
        let (config, tokenizer) = (self.config_json(), self.tokenizer.to_json());
        let weights = self.weights();
        let fingerprint = fingerprint(&config, &tokenizer, &weights);
        let mut files = BTreeMap::new();
        for (name, text) in [(CONFIG, config), (TOKENIZER, tokenizer)] {
            files.insert(name.into(), write_file(&dir.join(name), text.as_bytes(), None)?);
        }
        let earlier_files = Manifest::read(earlier).map(|m| m.files).unwrap_or_default();
        for (name, weights) in weights {
            let path = dir.join(&name);
            let same = earlier_files.get(&name).filter(|f| f.weights.as_ref() == Some(&weights));
            let file = match same {
                Some(file) if fs::hard_link(earlier.join(&name), &path).is_ok() => file.clone(),
                _ => write_file(&path, &self.burnpack(&name), Some(weights))?,
            };
            files.insert(name, file);
        }
        Manifest { format: FORMAT, fingerprint, files }.write(dir)
    }

    /// Names of the weight files and fingerprints of what is in them.
    fn weights(&self) -> Vec<(String, Fingerprint)> {
        let Model { image, text, features } = &self.model;
        let images = (0..).zip(image).map(|(i, e)| (image_name(i), weights_fingerprint(e)));
        let rest = [(TEXT, weights_fingerprint(text)), (HEAD, weights_fingerprint(features))];
        images.chain(rest.map(|(name, weights)| (name.to_owned(), weights))).collect()
    }

    /// The content of a weight file.
    fn burnpack(&self, name: &str) -> Bytes {
        let record = match name {
            TEXT => self.model.text.clone().into_record(),
            HEAD => self.model.features.clone().into_record(),
            _ => {
                let image = (0..).zip(&self.model.image).find(|(i, _)| image_name(*i) == name);
                image.expect("a name that `weights` gave").1.clone().into_record()
            }
        };
        record.into_bytes().expect("tensors in memory, written to memory")
    }

    fn config_json(&self) -> String {
        serde_json::to_string_pretty(&self.config).expect("string keys and finite numbers")
    }
}

impl Manifest {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let Ok(text) = fs::read_to_string(&path) else {
            return Err(Error::NoCheckpoint { path: dir.into() });
        };
        let bad =
            |e: serde_json::Error| Error::BadManifest { path: path.clone(), why: e.to_string() };
        // The format alone first: what else a newer one holds isn't known.
        let Version { format } = serde_json::from_str(&text).map_err(bad)?;
        if format > FORMAT {
            return Err(Error::NewerCheckpoint { path, found: format, known: FORMAT });
        }
        serde_json::from_str(&text).map_err(bad)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("string keys, strings and integers");
        Ok(atomic::write(&dir.join(MANIFEST), json.as_bytes())?)
    }

    /// The content of one file, if it is what was saved.
    fn bytes(&self, dir: &Path, name: &str) -> Result<Vec<u8>> {
        let path = dir.join(name);
        let (Some(recorded), true) = (self.files.get(name), path.exists()) else {
            return Err(Error::FileMissing { path });
        };
        let bytes = fs::read(&path).map_err(|e| io(&path, e))?;
        let (expected, found) = (recorded.sha256.clone(), sha256(&bytes));
        match found == expected {
            true => Ok(bytes),
            false => Err(Error::FileAltered { path, expected, found }),
        }
    }

    fn text(&self, dir: &Path, name: &str) -> Result<String> {
        let bytes = self.bytes(dir, name)?;
        String::from_utf8(bytes).map_err(|e| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, e);
            io(&dir.join(name), source)
        })
    }

    /// `checkpoint.json` itself has no sum: what it says must be what it says it amounts to.
    fn check_fingerprint(&self, dir: &Path, config: &str, tokenizer: &str) -> Result<()> {
        let weights: Vec<_> = self
            .files
            .iter()
            .filter_map(|(name, file)| file.weights.clone().map(|weights| (name.clone(), weights)))
            .collect();
        let found = fingerprint(config, tokenizer, &weights);
        if found == self.fingerprint {
            return Ok(());
        }
        let (expected, found) = (self.fingerprint.as_str().into(), found.as_str().into());
        Err(Error::FileAltered { path: dir.join(MANIFEST), expected, found })
    }
}

fn load_weights(manifest: &Manifest, dir: &Path, model: Model) -> Result<Model> {
    let image = (0..)
        .zip(model.image)
        .map(|(i, encoder)| load_module(manifest, dir, &image_name(i), encoder))
        .collect::<Result<_>>()?;
    Ok(Model {
        image,
        text: load_module(manifest, dir, TEXT, model.text)?,
        features: load_module(manifest, dir, HEAD, model.features)?,
    })
}

fn load_module<M: Module>(manifest: &Manifest, dir: &Path, name: &str, module: M) -> Result<M> {
    let format = Format {
        model: "the model in its config.json",
        rename: str::to_owned,
        ignored: |_| false,
        layout: Layout::Burn,
    };
    let bytes = manifest.bytes(dir, name)?;
    WeightsFile::burnpack(dir.join(name), bytes)?.load(module, &format)
}

fn image_name(i: usize) -> String {
    format!("image-{i}.bpk")
}

fn fingerprint(config: &str, tokenizer: &str, weights: &[(String, Fingerprint)]) -> Fingerprint {
    let mut weights: Vec<_> = weights.iter().collect();
    weights.sort();
    let weights = weights.into_iter().flat_map(|(name, weights)| [name.as_str(), weights.as_str()]);
    Fingerprint::of([config, tokenizer].into_iter().chain(weights))
}

fn parse_config(path: &Path, json: &str) -> Result<ModelConfig> {
    serde_json::from_str(json).map_err(|e| Error::BadModelConfig {
        path: path.into(),
        model: "a retrieval model",
        why: e.to_string(),
    })
}

fn write_file(path: &Path, bytes: &[u8], weights: Option<Fingerprint>) -> Result<File> {
    atomic::write(path, bytes)?;
    Ok(File { sha256: sha256(bytes), weights })
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where an interrupted [`replace`] left the earlier checkpoint of `dir`.
fn aside(dir: &Path) -> PathBuf {
    dir.with_added_extension("old")
}

/// `dir`, or what it was before an interrupted [`replace`].
fn existing(dir: &Path) -> PathBuf {
    let aside = aside(dir);
    if !dir.exists() && aside.exists() { aside } else { dir.into() }
}

/// Puts the folder `new` in the place of `dir`. At every moment `dir` or [`aside`] is whole.
fn replace(dir: &Path, new: &Path) -> Result<()> {
    let aside = aside(dir);
    if dir.exists() {
        remove(&aside)?;
        fs::rename(dir, &aside).map_err(|e| io(dir, e))?;
    }
    fs::rename(new, dir).map_err(|e| io(dir, e))?;
    remove(&aside)
}

/// Replacing deletes: a folder that holds anything but a checkpoint is left alone.
fn refuse_other_folders(dir: &Path) -> Result<()> {
    let empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if !dir.exists() || dir.join(MANIFEST).exists() || empty(dir) {
        return Ok(());
    }
    Err(Error::NotReplaced { path: dir.into() })
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(dir, e)),
        _ => Ok(()),
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    xr_data::Error::Io { path: path.into(), source }.into()
}

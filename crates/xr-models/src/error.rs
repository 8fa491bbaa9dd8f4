use std::path::PathBuf;

/// What can go wrong with models, each as a sentence that names the file and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device name that nobody knows.
    #[error(
        "there is no device `{name}`; the names are flex, libtorch, libtorch-cuda:0, cuda:0 and \
         wgpu, where 0 is the number of the GPU"
    )]
    NoSuchDevice {
        /// What was asked for.
        name: String,
    },
    /// A device whose backend isn't in this program.
    #[error(
        "device `{name}` is not compiled into this program; build it with `--features {feature}`"
    )]
    DeviceNotCompiled {
        /// What was asked for.
        name: String,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// A device that is compiled in, but not present on this machine.
    #[error("device `{name}` is not on this machine: {why}; `--device {instead}` works everywhere")]
    DeviceMissing {
        /// What was asked for.
        name: String,
        /// What was found.
        why: String,
        /// A device that is always there.
        instead: &'static str,
    },
    /// A model's `config.json` that can't be read as what it should describe.
    #[error("{}: not a configuration of {model}: {why}", path.display())]
    BadModelConfig {
        /// The file.
        path: PathBuf,
        /// The model that was to be built.
        model: &'static str,
        /// What was found.
        why: String,
    },
    /// A problem with data.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
}

/// The result of working with models.
pub type Result<T, E = Error> = std::result::Result<T, E>;

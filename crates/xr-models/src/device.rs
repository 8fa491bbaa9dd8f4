use burn::tensor::Device;

use crate::{Error, Result};

/// The device of this name: `flex`, `libtorch`, `libtorch-cuda:0`, `cuda:0` or `wgpu`. The number
/// is that of the GPU, and 0 when left out.
///
/// ```
/// let device = xr_models::device("flex")?;
/// assert!(xr_models::device("abacus").is_err());
/// # Ok::<(), xr_models::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoSuchDevice`] for any other name, [`Error::DeviceNotCompiled`] when the backend isn't
/// in this program, [`Error::DeviceMissing`] when libtorch has no such GPU. That `cuda` or `wgpu`
/// find no GPU shows only at the first operation, as a panic of theirs.
pub fn device(name: &str) -> Result<Device> {
    let no_such = || Error::NoSuchDevice { name: name.into() };
    let (backend, number) = match name.split_once(':') {
        Some((backend, number)) => (backend, number.parse().map_err(|_| no_such())?),
        None => (name, 0),
    };
    let takes_number = matches!(backend, "libtorch-cuda" | "cuda");
    if name.contains(':') && !takes_number {
        return Err(no_such());
    }
    open(name, backend, number)
}

// Burn deprecates libtorch, which is the only CUDA backend that links without a download.
#[allow(deprecated, unused_variables)] // `number` without a GPU backend
fn open(name: &str, backend: &str, number: usize) -> Result<Device> {
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "tch")]
        "libtorch" => Ok(Device::libtorch()),
        #[cfg(feature = "tch")]
        "libtorch-cuda" => match missing_gpu(number) {
            None => Ok(Device::libtorch_cuda(number)),
            Some(why) => Err(Error::DeviceMissing { name: name.into(), why }),
        },
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(number)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => Err(absent(name, backend)),
    }
}

fn absent(name: &str, backend: &str) -> Error {
    let feature = match backend {
        "flex" => "flex",
        "libtorch" | "libtorch-cuda" => "tch",
        "cuda" => "cuda",
        "wgpu" => "wgpu",
        _ => return Error::NoSuchDevice { name: name.into() },
    };
    Error::DeviceNotCompiled { name: name.into(), feature }
}

/// Why libtorch can't use this GPU. Burn would panic at the first operation.
#[cfg(feature = "tch")]
fn missing_gpu(number: usize) -> Option<String> {
    match tch::Cuda::device_count() {
        _ if !tch::Cuda::is_available() => Some("libtorch finds no CUDA".into()),
        count if number as i64 >= count => Some(format!("libtorch finds {count} GPUs")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(name: &str) -> String {
        device(name).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_name() {
        let names = "the names are flex, libtorch, libtorch-cuda:0, cuda:0 and wgpu, where 0 is \
                     the number of the GPU";
        for name in ["abacus", "flex:0", "cuda:first", ""] {
            assert_eq!(sentence(name), format!("there is no device `{name}`; {names}"));
        }
    }

    #[cfg(not(feature = "tch"))]
    #[test]
    fn a_backend_that_is_not_compiled_in() {
        assert_eq!(
            sentence("libtorch-cuda:1"),
            "device `libtorch-cuda:1` is not compiled into this program; build it with \
             `--features tch`"
        );
    }

    #[cfg(feature = "tch")]
    #[test]
    fn a_gpu_that_is_not_there() {
        assert!(
            sentence("libtorch-cuda:99")
                .starts_with("device `libtorch-cuda:99` is not on this machine: libtorch finds")
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex() {
        assert_eq!(device("flex").unwrap(), Device::flex());
    }
}

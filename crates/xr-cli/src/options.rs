use std::{
    env,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use xr::{Options, Retriever, models::device};

use crate::Result;

/// What every subcommand understands.
#[derive(Debug, Args)]
pub struct Global {
    /// Where to compute: flex, libtorch, libtorch-cuda:0, cuda:0 or wgpu.
    ///
    /// All but flex have to be compiled in; the error says how. For `xr train` several can be named,
    /// which share out each batch: libtorch-cuda:0,libtorch-cuda:1.
    #[arg(long, global = true, default_value = "flex", value_name = "NAME", value_delimiter = ',')]
    device: Vec<String>,
    /// Folder of the feature cache [default: xr in the user's cache folder].
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Stop at the first picture or caption that can't be used, instead of leaving it out.
    #[arg(long, global = true)]
    strict: bool,
}

/// How precisely a model embeds.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Precision {
    /// What the encoders multiply: bf16 has 8 bits and is faster where the processor has
    /// AVX512-BF16, else slower. Embeddings of the two aren't mixed.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    precision: Number,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
enum Number {
    #[default]
    F32,
    Bf16,
}

impl Precision {
    /// What tells apart what is kept for a model in this precision.
    pub fn suffix(self) -> Option<&'static str> {
        (self.precision == Number::Bf16).then_some("bf16")
    }
}

impl Global {
    /// The device, where one is enough.
    pub fn device(&self) -> Result<xr::Device> {
        match &self.device[..] {
            [name] => Ok(device(name)?),
            names => {
                let names = names.join(",");
                Err(format!("--device {names}: only `xr train` works on several; name one").into())
            }
        }
    }

    /// The devices, which share out the batches of a training.
    pub fn devices(&self) -> Result<Vec<xr::Device>> {
        self.device.iter().map(|name| Ok(device(name)?)).collect()
    }

    /// The model of a run or a packed file, or the one that is built in.
    pub fn retriever(&self, model: Option<&Path>, precision: Precision) -> Result<Retriever> {
        let device = self.device()?;
        let model = match model {
            Some(path) => Retriever::open(path, &device)?,
            None => Retriever::unpacked(&xr_mini::packed(), &device)?,
        };
        Ok(match precision.precision {
            Number::F32 => model,
            Number::Bf16 => model.in_bf16(),
        })
    }

    pub fn options(&self) -> Options {
        let cache = self.cache.clone().unwrap_or_else(user_cache);
        Options { cache, strict: self.strict }
    }
}

/// `$XDG_CACHE_HOME/xr`, or `~/.cache/xr`, or `.xr-cache` here where there is no home.
fn user_cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| ".xr-cache".into(), |folder| folder.join("xr"))
}

/// Names what was left out, on standard error.
pub fn report_skipped(skipped: &[xr::data::Skipped]) {
    const SHOWN: usize = 10;
    for what in skipped.iter().take(SHOWN) {
        eprintln!("left out: {what}");
    }
    if skipped.len() > SHOWN {
        eprintln!("left out: {} more", skipped.len() - SHOWN);
    }
}

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;
use xr::{Options, Retriever, models::device};

use crate::Result;

/// What every subcommand understands.
#[derive(Debug, Args)]
pub struct Global {
    /// Where to compute: flex, libtorch, libtorch-cuda:0, cuda:0 or wgpu.
    ///
    /// All but flex have to be compiled in; the error says how.
    #[arg(long, global = true, default_value = "flex", value_name = "NAME")]
    device: String,
    /// Folder of the feature cache [default: xr in the user's cache folder].
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Stop at the first picture or caption that can't be used, instead of leaving it out.
    #[arg(long, global = true)]
    strict: bool,
}

impl Global {
    pub fn device(&self) -> Result<xr::Device> {
        Ok(device(&self.device)?)
    }

    /// The model of a run or a packed file, or the one that is built in.
    pub fn retriever(&self, model: Option<&Path>) -> Result<Retriever> {
        let device = self.device()?;
        match model {
            Some(path) => Ok(Retriever::open(path, &device)?),
            None => Ok(Retriever::unpacked(&xr_mini::packed(), &device)?),
        }
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

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use xr::{
    Retriever,
    data::Embeddings,
    eval::plot::{
        self,
        curves::{Curve, Panel, draw},
    },
    index::{
        Catalogue, Config, Effort, IndexSpec, Space,
        tune::{QuerySample, TuneReport, Tuning, candidates, tune},
    },
    item_id,
};

use crate::{
    Result,
    options::{Global, Precision, report_skipped},
};

/// Keeps pictures with their texts and embeddings in a catalogue, to be searched.
///
/// What these commands have said is done survives a killed process and a power cut.
#[derive(Debug, Subcommand)]
pub enum Index {
    Build(Build),
    Add(Add),
    Remove(Remove),
    Info(Info),
    Verify(Verify),
    Tune(Tune),
    Push(Push),
    Import(Import),
    Export(Export),
}

impl Index {
    pub fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::Build(build) => build.run(global),
            Self::Add(add) => add.run(global),
            Self::Remove(remove) => remove.run(),
            Self::Info(info) => info.run(),
            Self::Verify(verify) => verify.run(),
            Self::Tune(tune) => tune.run(),
            Self::Push(push) => push.run(),
            Self::Import(import) => import.run(),
            Self::Export(export) => export.run(),
        }
    }
}

/// Makes a catalogue of the pictures of a data set.
#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    add: Add,
    /// Index: exact, exact-i8, or what FAISS' index factory takes, such as HNSW32.
    #[arg(long, value_name = "SPEC", default_value = "exact")]
    index: IndexSpec,
}

impl Build {
    fn run(&self, global: &Global) -> Result<()> {
        let model = global.retriever(self.add.model.as_deref(), self.add.precision)?;
        let embedder = model.embedder();
        let config = Config::new(embedder.fingerprint().clone(), embedder.dim());
        let mut catalogue = Catalogue::create(&self.add.catalogue, config)?;
        self.add.put_into(&catalogue, &model, global)?;
        Ok(catalogue.rebuild(self.index.clone(), Effort::default())?)
    }
}

/// Adds the pictures of a data set; those that are there are replaced.
#[derive(Debug, Args)]
pub struct Add {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// What embeds: folder of a run, or a model that `xr pack` wrote [default: the model that is
    /// built in].
    #[arg(long = "in", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Data set, or a folder of pictures.
    #[arg(long, value_name = "DATA")]
    data: String,
    #[command(flatten)]
    precision: Precision,
}

impl Add {
    fn run(&self, global: &Global) -> Result<()> {
        let model = global.retriever(self.model.as_deref(), self.precision)?;
        self.put_into(&open(&self.catalogue)?, &model, global)
    }

    fn put_into(&self, catalogue: &Catalogue, model: &Retriever, global: &Global) -> Result<()> {
        let put = model.catalogue_pictures(catalogue, &self.data, &global.options())?;
        report_skipped(&put.skipped);
        println!("{} pictures added", put.pictures);
        Ok(())
    }
}

/// Removes pictures.
#[derive(Debug, Args)]
pub struct Remove {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// What `xr search` calls them.
    #[arg(required = true)]
    pictures: Vec<String>,
}

impl Remove {
    fn run(&self) -> Result<()> {
        let catalogue = open(&self.catalogue)?;
        let ids: Vec<_> = self.pictures.iter().map(|source| item_id(source)).collect();
        println!("{} of {} removed", catalogue.remove(&ids)?, ids.len());
        Ok(())
    }
}

/// Says what is in a catalogue.
#[derive(Debug, Args)]
pub struct Info {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    fn run(&self) -> Result<()> {
        let summary = open(&self.catalogue)?.summary()?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
            return Ok(());
        }
        let config = &summary.config;
        println!("{} items, by model {}", summary.items, config.made_by);
        for space in &summary.spaces {
            println!(
                "{}: {} embeddings of {}, {}, {}, {} bytes",
                space.space, space.vectors, config.dim, config.metric, space.index, space.bytes
            );
        }
        Ok(())
    }
}

/// Reads everything in a catalogue and checks it.
#[derive(Debug, Args)]
pub struct Verify {
    /// Folder of the catalogue.
    catalogue: PathBuf,
}

impl Verify {
    fn run(&self) -> Result<()> {
        open(&self.catalogue)?.verify()?;
        println!("all is whole");
        Ok(())
    }
}

/// Measures which index suits a catalogue's pictures.
///
/// Some pictures are left out of the index and looked for, and so are captions: recall is given for
/// both, because an index that finds nearly all neighbours of a picture may miss many of a text.
#[derive(Debug, Args)]
pub struct Tune {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// An index to try; may be given several times [default: those worth trying].
    #[arg(long = "index", value_name = "SPEC")]
    specs: Vec<IndexSpec>,
    /// Queries of each kind.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    queries: usize,
    /// Neighbours wanted.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 10)]
    top: usize,
    /// Most bytes a vector may take.
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<f64>,
    /// Most milliseconds that 99 of 100 queries may take.
    #[arg(long, value_name = "MS")]
    max_p99: Option<f64>,
    /// Folder for tune.md, tune.json and tune.png.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use what was chosen from now on.
    #[arg(long)]
    apply: bool,
}

impl Tune {
    fn run(&self) -> Result<()> {
        let mut catalogue = open(&self.catalogue)?;
        let report = self.measure(&catalogue)?;
        print!("{}", report.markdown());
        if let Some(out) = &self.out {
            save(&report, out)?;
        }
        match report.choice.map(|choice| &report.measured[choice]) {
            Some(choice) if self.apply => {
                Ok(catalogue.rebuild(choice.spec.clone(), choice.effort)?)
            }
            None if self.apply => Err("nothing is within the budget; allow more".into()),
            _ => Ok(()),
        }
    }

    fn measure(&self, catalogue: &Catalogue) -> Result<TuneReport> {
        let (_, pictures) = catalogue.embeddings(Space::Pictures)?;
        let (_, texts) = catalogue.embeddings(Space::Texts)?;
        // Never more than a tenth: the rest is what is searched.
        let (gallery, image) = without_some(&pictures, self.queries.min(pictures.rows() / 10));
        let (_, text) = without_some(&texts, self.queries.min(texts.rows()));
        let samples = [
            QuerySample { kind: "image", queries: image.view() },
            QuerySample { kind: "text", queries: text.view() },
        ];
        let samples: Vec<_> = samples.into_iter().filter(|s| !s.queries.is_empty()).collect();
        let specs =
            if self.specs.is_empty() { candidates(gallery.rows()) } else { self.specs.clone() };
        let tuning = Tuning {
            specs,
            k: self.top,
            max_bytes: self.max_bytes,
            max_p99: self.max_p99,
            time: Duration::from_secs(1),
        };
        let metric = catalogue.config().metric;
        Ok(tune(&gallery, metric, &samples, &tuning, |measured| {
            eprintln!(
                "{} {}: recall {:.3}, {:.0} queries/s",
                measured.spec,
                measured.effort,
                measured.worst_recall(),
                measured.qps_one
            );
        })?)
    }
}

/// Rows without some, evenly spread, and those.
fn without_some(rows: &Embeddings, some: usize) -> (Embeddings, Embeddings) {
    let every = rows.rows().checked_div(some).unwrap_or(usize::MAX);
    let (taken, rest): (Vec<u32>, Vec<u32>) = (0..rows.rows() as u32)
        .partition(|&row| (row as usize).is_multiple_of(every) && row as usize / every < some);
    (rows.select(&rest), rows.select(&taken))
}

fn save(report: &TuneReport, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("tune.md"), report.markdown())?;
    fs::write(out.join("tune.json"), serde_json::to_string_pretty(report)?)?;
    Ok(plot::save(&draw(&panels(report)), &out.join("tune.png"))?)
}

/// A diagram for each kind of queries: speed over recall, a curve for each index.
fn panels(report: &TuneReport) -> Vec<Panel> {
    let kinds = report.measured.first().map_or(0, |measured| measured.recall.len());
    let panel = |kind: usize| {
        let mut curves: Vec<Curve> = vec![];
        for measured in &report.measured {
            let name = measured.spec.to_string();
            let point = (measured.recall[kind].mean, measured.qps_one.log10());
            match curves.iter_mut().find(|curve| curve.name == name) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { name, points: vec![point] }),
            }
        }
        let title = format!("log10 of queries a second, {}", report.measured[0].recall[kind].kind);
        Panel { title, x: format!("recall@{}", report.k), curves, mark: None }
    };
    (0..kinds).map(panel).collect()
}

/// Brings a catalogue to Milvus servers, and what changed in it since the last time.
///
/// What is there already isn't sent again: a push that was killed goes on where it was. At the end
/// the vectors are counted and some of them looked for.
#[derive(Debug, Args)]
pub struct Push {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// Collection, such as http://localhost:19530/shelf or
    /// http://localhost:19530/shelf?index=IVF_SQ8&nlist=4096.
    #[arg(long, value_name = "URI")]
    to: String,
}

impl Push {
    #[cfg(feature = "milvus")]
    fn run(&self) -> Result<()> {
        let catalogue = open(&self.catalogue)?;
        let bar = xr::progress_bar("embeddings");
        let pushed = xr::index::MilvusCatalogue::push(&catalogue, &self.to, bar)?;
        println!(
            "{} embeddings are there, {} of them new; {} removed; recall@10 {:.3}",
            pushed.vectors, pushed.sent, pushed.removed, pushed.recall
        );
        Ok(())
    }

    #[cfg(not(feature = "milvus"))]
    fn run(&self) -> Result<()> {
        Err(xr::index::Error::WithoutMilvus(self.to.clone()).into())
    }
}

/// Makes a catalogue of embeddings that clip-retrieval's `clip inference` made.
#[derive(Debug, Args)]
pub struct Import {
    /// Folder for the catalogue.
    catalogue: PathBuf,
    /// Folder with img_emb/, text_emb/ and metadata/.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// What made the embeddings: of one of xr's models the `made_by` of `xr index info --json`, or
    /// any name of another. Queries must be of the same.
    #[arg(long, value_name = "NAME")]
    made_by: String,
}

impl Import {
    #[cfg(feature = "clip-retrieval")]
    fn run(&self) -> Result<()> {
        let folder = xr::index::ClipRetrieval::open(&self.from)?;
        let config = Config::new(self.made_by.clone().into(), folder.dim());
        let catalogue = Catalogue::create(&self.catalogue, config)?;
        println!("{} pictures added", folder.put_into(&catalogue, item_id)?);
        Ok(())
    }

    #[cfg(not(feature = "clip-retrieval"))]
    fn run(&self) -> Result<()> {
        Err(xr::index::Error::WithoutClipRetrieval { path: self.from.clone() }.into())
    }
}

/// Writes a catalogue's embeddings as clip-retrieval serves them (`clip back`), one picture and one
/// caption of each item; with FAISS compiled in, indexes too.
#[derive(Debug, Args)]
pub struct Export {
    /// Folder of the catalogue.
    catalogue: PathBuf,
    /// Folder for img_emb/, text_emb/, metadata/, image.index and text.index.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Export {
    #[cfg(feature = "clip-retrieval")]
    fn run(&self) -> Result<()> {
        let rows = xr::index::ClipRetrieval::write(&open(&self.catalogue)?, &self.to)?;
        println!("{rows} rows written");
        Ok(())
    }

    #[cfg(not(feature = "clip-retrieval"))]
    fn run(&self) -> Result<()> {
        Err(xr::index::Error::WithoutClipRetrieval { path: self.to.clone() }.into())
    }
}

/// Opens a catalogue, and says what had to be mended.
fn open(dir: &Path) -> Result<Catalogue> {
    let catalogue = Catalogue::open(dir)?;
    for error in catalogue.repaired() {
        eprintln!("built anew: {error}");
    }
    Ok(catalogue)
}

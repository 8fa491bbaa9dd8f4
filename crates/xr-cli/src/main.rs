//! `xr`: finds pictures by words and words by pictures.

mod data;
mod demo;
mod embed;
mod eval;
mod index;
mod options;
mod pack;
mod search;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use options::Global;

/// Any error, as a sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Finds pictures by words and words by pictures.
#[derive(Debug, Parser)]
#[command(name = "xr", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    #[command(subcommand)]
    Data(data::Data),
    Train(train::Train),
    Eval(eval::Eval),
    Embed(embed::Embed),
    #[command(subcommand)]
    Index(index::Index),
    Search(search::Search),
    Pack(pack::Pack),
}

fn main() -> ExitCode {
    xr::tune_allocator();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xr: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Demo(demo) => demo.run(&cli.global),
        Command::Data(data) => data.run(&cli.global),
        Command::Train(train) => train.run(&cli.global),
        Command::Eval(eval) => eval.run(&cli.global),
        Command::Embed(embed) => embed.run(&cli.global),
        Command::Index(index) => index.run(&cli.global),
        Command::Search(search) => search.run(&cli.global),
        Command::Pack(pack) => pack.run(&cli.global),
    }
}

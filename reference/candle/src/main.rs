//! all-MiniLM-L6-v2 in candle, on random input with random weights.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release -- SECONDS
//!
//! Prints what `reference/timing.py` prints: one line of JSON for each number of rows of 25 tokens.

use std::{env, error::Error, time::Instant};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::bert::{BertModel, Config};

const TOKENS: usize = 25;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let seconds: f64 = env::args().nth(1).map_or(Ok(5.0), |word| word.parse())?;
    let threads = env::var("RAYON_NUM_THREADS").unwrap_or_default();
    let weights = VarMap::new();
    let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let sizes = Config {
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
        ..Config::default()
    };
    let model = BertModel::load(builder, &sizes)?;
    for batch in [1, 16, 64] {
        let ids = Tensor::rand(1000f32, 30_000.0, (batch, TOKENS), &Device::Cpu)?.to_dtype(DType::U32)?;
        let mask = Tensor::ones((batch, TOKENS), DType::U32, &Device::Cpu)?;
        let rate = batch as f64 / median_seconds(seconds, || encode(&model, &ids, &mask))?;
        println!(
            r#"{{"work": "minilm/{batch}x{TOKENS}", "engine": "candle", "threads": {threads}, "value": {rate:.2}, "unit": "captions/s"}}"#
        );
    }
    Ok(())
}

/// Mean-pooled features, `[batch, 384]`.
fn encode(model: &BertModel, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let states = model.forward(ids, &ids.zeros_like()?, Some(mask))?;
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    states.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)
}

/// Median time of one call, after two that don't count.
fn median_seconds(seconds: f64, call: impl Fn() -> Result<Tensor>) -> Result<f64> {
    call()?;
    call()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || start.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

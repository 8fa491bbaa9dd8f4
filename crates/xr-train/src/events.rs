//! TensorBoard's file of scalars: TFRecords of `Event` messages, as its own writer makes them.
//!
//! A record is its length (u64), the masked CRC-32C of those eight bytes, the message and the masked
//! CRC-32C of the message, all little-endian; see `tensorflow/core/lib/io/record_writer.h` and
//! `tensorflow/core/util/event.proto`.

use std::collections::BTreeMap;

use crate::{EpochRecord, Record, StepRecord};

/// TensorBoard reads whatever has `tfevents` in its name.
pub(crate) const FILE: &str = "events.out.tfevents.0.xr";

/// The first record of a file.
pub(crate) fn version(seconds: f64) -> Vec<u8> {
    let mut event = double(1, seconds);
    event.extend(bytes(3, b"brain.Event:2"));
    framed(&event)
}

/// A record of the log, `seconds` after 1970.
pub(crate) fn event(record: &Record, seconds: f64) -> Vec<u8> {
    let (step, scalars) = match record {
        Record::Step(step) => (step.step, of_step(step)),
        Record::Epoch(epoch) => (epoch.step, of_epoch(epoch)),
    };
    let mut event = double(1, seconds);
    event.extend([key(2, 0), varint(step as u64)].concat());
    let values = scalars.iter().flat_map(|(tag, value)| {
        bytes(1, &[bytes(1, tag.as_bytes()), float(2, *value as f32)].concat())
    });
    event.extend(bytes(5, &values.collect::<Vec<_>>()));
    framed(&event)
}

/// Numbers under their tags; what stands before the slash is a section of the page.
type Scalars = Vec<(String, f64)>;

fn of_step(record: &StepRecord) -> Scalars {
    let mut scalars = vec![
        ("step/loss".to_string(), record.loss),
        ("step/lr".into(), record.lr),
        ("step/steps per second".into(), record.steps_per_second),
    ];
    scalars.extend(record.temperature.map(|value| ("step/temperature".into(), value)));
    scalars.extend(record.grad_norm.map(|norm| ("step/gradient norm".into(), norm)));
    scalars.extend(tagged("step/gradient norm ", &record.grad_norms));
    scalars.extend(tagged("step/", &record.parts));
    scalars
}

fn of_epoch(record: &EpochRecord) -> Scalars {
    let mut scalars = vec![
        ("epoch/loss".to_string(), record.loss),
        ("epoch/chance loss".into(), record.chance_loss),
        ("epoch/lr".into(), record.lr),
        ("epoch/steps per second".into(), record.steps_per_second),
        ("epoch/share of time waiting for data".into(), record.waited),
        ("validation/loss".into(), record.validation.loss),
    ];
    scalars.extend(record.temperature.map(|value| ("epoch/temperature".into(), value)));
    scalars.extend(record.grad_norm.map(|norm| ("epoch/gradient norm".into(), norm)));
    scalars.extend(tagged("epoch/gradient norm ", &record.grad_norms));
    scalars.extend(tagged("epoch/", &record.parts));
    scalars.extend(tagged("validation/", &record.validation.metrics));
    scalars.extend(tagged("diagnostics/", &record.validation.diagnostics));
    scalars
}

fn tagged(prefix: &str, values: &BTreeMap<String, f64>) -> impl Iterator<Item = (String, f64)> {
    values.iter().map(move |(name, value)| (format!("{prefix}{name}"), *value))
}

/// What stands before a field of a protobuf message.
fn key(field: u8, wire_type: u8) -> Vec<u8> {
    vec![(field << 3) | wire_type]
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [key(field, 1), value.to_le_bytes().to_vec()].concat()
}

fn float(field: u8, value: f32) -> Vec<u8> {
    [key(field, 5), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [key(field, 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let crc = |of: &[u8]| masked(crc32c(of)).to_le_bytes();
    [&length[..], &crc(&length), message, &crc(message)].concat()
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The CRC of Castagnoli's polynomial, bit by bit: a record has a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validation;

    #[test]
    fn the_check_value_of_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Made by `reference/fixtures_events.py` with TensorBoard's own writer.
    #[test]
    fn the_bytes_that_tensorboard_writes() {
        let step = Record::Step(StepRecord {
            epoch: 1,
            step: 300,
            loss: 1.5,
            parts: [("info_nce".to_string(), 2.5)].into(),
            lr: 0.001,
            temperature: Some(0.07),
            grad_norm: Some(5.0),
            grad_norms: [("image".to_string(), 3.0), ("text".to_string(), 4.0)].into(),
            steps_per_second: 8.0,
        });
        let epoch = Record::Epoch(EpochRecord {
            epoch: 1,
            step: 300,
            loss: 1.25,
            parts: [("info_nce".to_string(), 2.25)].into(),
            chance_loss: 4.75,
            lr: 0.0005,
            temperature: None,
            grad_norm: None,
            grad_norms: [].into(),
            steps_per_second: 7.5,
            waited: 0.125,
            validation: Validation {
                loss: 2.0,
                metrics: [("R@5".to_string(), 0.5)].into(),
                diagnostics: [("image cosine".to_string(), 0.25)].into(),
            },
        });
        let ours = [version(1.5e9), event(&step, 1.5e9 + 0.25), event(&epoch, 1.5e9 + 0.5)];
        let theirs = include_bytes!("../tests/fixtures/events.tfevents");
        assert!(ours.concat() == theirs);
    }
}

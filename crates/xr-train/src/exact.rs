//! `f64` as text for serde, so that it comes back bit for bit: `serde_json` reads one number in ten
//! a unit in the last place off, and infinity not at all.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct One(#[serde(with = "super")] f64);

    #[test]
    fn every_bit_comes_back() {
        for x in [f64::INFINITY, 0.1 + 0.2, f64::MIN_POSITIVE, 2.3283064365386963e-10, -1.0 / 3.0] {
            let json = serde_json::to_string(&One(x)).unwrap();
            let back: One = serde_json::from_str(&json).unwrap();
            assert_eq!(back.0.to_bits(), x.to_bits(), "{json}");
        }
    }
}

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::metric::Aggregate;

/// A percentile bootstrap of whole clusters.
///
/// The five captions of a picture are hit or missed together more often than not, so they are no
/// five independent queries, and to resample them one by one makes intervals that are too narrow.
/// Instead the *pictures* are drawn with replacement, and each brings all its queries (Davison and
/// Hinkley 1997, *Bootstrap Methods and their Application*, 3.8; percentiles: Efron and Tibshirani
/// 1993, 13.3).
///
/// Resample `i` is drawn by ChaCha8 seeded with `seed` on stream `i`: the interval doesn't depend on
/// the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How often all clusters are drawn anew.
    pub resamples: usize,
    /// Share of the resamples inside the interval.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 95 % of 1,000 resamples, seed 0.
    fn default() -> Self {
        Self { resamples: 1_000, level: 0.95, seed: 0 }
    }
}

/// A value and the interval that the bootstrap puts around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value of the sample itself.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Bootstrap {
    /// The interval of the mean or median of `values`, where value `i` belongs to cluster
    /// `clusters[i]` (any numbers, in any order). Without resamples it is the value alone.
    ///
    /// # Panics
    /// If there is no value, or not one cluster a value.
    pub fn interval(&self, values: &[f64], clusters: &[u32], aggregate: Aggregate) -> Interval {
        assert!(!values.is_empty() && values.len() == clusters.len(), "a cluster for each value");
        let sample = Sample::new(values, clusters, aggregate);
        let value = sample.of(&vec![1; sample.clusters]);
        let mut values: Vec<_> = (0..self.resamples as u64)
            .into_par_iter()
            .map(|i| sample.of(&self.draw(i, &sample)))
            .collect();
        if values.is_empty() {
            values.push(value);
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Interval { value, low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
    }

    /// How often each cluster comes up in resample `i`.
    fn draw(&self, i: u64, sample: &Sample) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(i);
        let mut times = vec![0; sample.clusters];
        for _ in 0..sample.clusters {
            times[rng.random_range(0..sample.clusters as u32) as usize] += 1;
        }
        times
    }
}

/// Values in a form that is quick to weigh.
struct Sample {
    clusters: usize,
    kind: Kind,
}

enum Kind {
    /// Sum and number of each cluster's values.
    Mean(Vec<(f64, f64)>),
    /// Ascending values with their clusters.
    Median(Vec<(f64, usize)>),
}

impl Sample {
    fn new(values: &[f64], clusters: &[u32], aggregate: Aggregate) -> Self {
        let mut dense: BTreeMap<u32, usize> = clusters.iter().map(|&c| (c, 0)).collect();
        dense.values_mut().enumerate().for_each(|(i, place)| *place = i);
        let pairs = values.iter().zip(clusters).map(|(&value, c)| (value, dense[c]));
        let kind = match aggregate {
            Aggregate::Mean => Kind::Mean(sums(pairs, dense.len())),
            Aggregate::Median => {
                let mut pairs: Vec<_> = pairs.collect();
                pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
                Kind::Median(pairs)
            }
        };
        Self { clusters: dense.len(), kind }
    }

    /// The mean or median with every cluster taken so many `times`.
    fn of(&self, times: &[u32]) -> f64 {
        match &self.kind {
            Kind::Mean(sums) => {
                let weighted = sums
                    .iter()
                    .zip(times)
                    .map(|(&(s, n), &t)| (s * f64::from(t), n * f64::from(t)));
                let (sum, n) = weighted.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
                sum / n
            }
            Kind::Median(sorted) => {
                let n: usize = sorted.iter().map(|&(_, c)| times[c] as usize).sum();
                (nth(sorted, times, (n - 1) / 2) + nth(sorted, times, n / 2)) / 2.0
            }
        }
    }
}

fn sums(pairs: impl Iterator<Item = (f64, usize)>, clusters: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); clusters];
    for (value, cluster) in pairs {
        sums[cluster].0 += value;
        sums[cluster].1 += 1.0;
    }
    sums
}

/// The value at position `n` of the sorted values, each repeated as often as its cluster.
fn nth(sorted: &[(f64, usize)], times: &[u32], n: usize) -> f64 {
    let mut seen = 0;
    let reached = |&&(_, cluster): &&(f64, usize)| {
        seen += times[cluster] as usize;
        seen > n
    };
    sorted.iter().find(reached).expect("n is below the sum of all weights").0
}

/// Between two order statistics the value is interpolated, as `numpy.quantile` does.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn interval(values: &[f64], clusters: &[u32], aggregate: Aggregate) -> Interval {
        Bootstrap::default().interval(values, clusters, aggregate)
    }

    #[test]
    fn what_never_varies_has_no_width() {
        for aggregate in [Aggregate::Mean, Aggregate::Median] {
            let same = Interval { value: 0.5, low: 0.5, high: 0.5 };
            assert_eq!(interval(&[0.5; 6], &[0, 0, 1, 2, 2, 2], aggregate), same);
            // One cluster is drawn every time.
            let one = interval(&[0., 1.], &[7, 7], aggregate);
            assert_eq!(one, same);
        }
    }

    /// Two clusters, one of zeros and one of ones: drawn 00, 01, 10 or 11, the mean is 0, ½, ½ or 1.
    /// A quarter of the resamples lies at either end, so 95 % reach from 0 to 1 and 40 % are all ½.
    #[test]
    fn two_clusters() {
        let (values, clusters) = ([0., 0., 1., 1.], [0, 0, 1, 1]);
        for aggregate in [Aggregate::Mean, Aggregate::Median] {
            let of = |level| {
                Bootstrap { level, ..Default::default() }.interval(&values, &clusters, aggregate)
            };
            assert_eq!(of(0.95), Interval { value: 0.5, low: 0., high: 1. });
            assert_eq!(of(0.4), Interval { value: 0.5, low: 0.5, high: 0.5 });
        }
    }

    /// A cluster brings all its values: the mean of 0 0 0 and 1 is 0, ¼ or 1, never ½.
    #[test]
    fn clusters_of_unequal_size() {
        let mean = interval(&[0., 0., 0., 1.], &[0, 0, 0, 1], Aggregate::Mean);
        assert_eq!(mean, Interval { value: 0.25, low: 0., high: 1. });
    }

    #[test]
    fn without_resamples() {
        let none = Bootstrap { resamples: 0, ..Default::default() };
        let interval = none.interval(&[1., 2.], &[0, 1], Aggregate::Median);
        assert_eq!(interval, Interval { value: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[1., 2., 4.], 0.75), 3.); // half-way between 2 and 4
        assert_eq!(quantile(&[1., 2., 4.], 1.), 4.);
    }

    #[test]
    fn threads_change_nothing_and_the_seed_does() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * i % 17)).collect();
        let clusters: Vec<u32> = (0..200).map(|i| i / 5).collect();
        let with = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let bootstrap = Bootstrap { seed, ..Default::default() };
            pool.install(|| bootstrap.interval(&values, &clusters, Aggregate::Mean))
        };
        assert_eq!(with(1, 0), with(3, 0));
        assert_ne!(with(1, 0), with(1, 1));
    }

    /// 200 clusters of five equal coin tosses: the values of 200 fair coins, five times over.
    fn coins(seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..200).flat_map(|_| [f64::from(rng.random::<bool>()); 5]).collect()
    }

    /// The mean of 200 fair coins has deviation √(¼/200) = .0354, so 95 % is ± .0693. Taken for
    /// 1,000 coins it would be √5 times narrower.
    #[test]
    fn clusters_widen_the_interval_by_the_root_of_their_size() {
        let (coins, pictures): (_, Vec<u32>) = (coins(0), (0..1000).map(|i| i / 5).collect());
        let width = |clusters: &[u32]| {
            let interval = interval(&coins, clusters, Aggregate::Mean);
            interval.high - interval.low
        };
        let (clustered, naive) = (width(&pictures), width(&(0..1000).collect::<Vec<_>>()));
        let near = |x: f64, range: RangeInclusive<f64>| assert!(range.contains(&x), "{x}");
        near(clustered, 0.125..=0.152); // .1386 within the noise of 1,000 resamples
        near(clustered / naive, 2.0..=2.5); // √5 = 2.24
    }

    /// Of 400 intervals at 95 % about 380 contain the truth; 360 and 396 are four deviations away.
    /// Resampled without their clusters, they are √5 times narrower and 62 % contain it.
    #[test]
    fn intervals_cover() {
        let bootstrap = Bootstrap { resamples: 200, ..Default::default() };
        let cover = |samples: u64, clusters: &[u32]| {
            let covers = |&seed: &u64| {
                let i = bootstrap.interval(&coins(seed), clusters, Aggregate::Mean);
                i.low <= 0.5 && 0.5 <= i.high
            };
            (0..samples).filter(covers).count()
        };
        let clustered = cover(400, &(0..1000).map(|i| i / 5).collect::<Vec<_>>());
        assert!((360..=396).contains(&clustered), "{clustered}");
        let naive = cover(100, &(0..1000).collect::<Vec<_>>());
        assert!(naive < 80, "{naive}");
    }
}

use super::{Metric, count_within};

/// `P@20%`: of the first 20 % of the gallery, rounded up to a whole number, the share that are
/// answers.
///
/// For sets like NUS-WIDE, where a whole class answers a query; with one answer in a gallery of
/// 1,000 it can't pass .005, and chance is the share of answers in the gallery. **Not to be
/// compared** with the "top 20 %" of [Feng et al. 2014](https://doi.org/10.1145/2647868.2654902) on
/// sets with a single answer, which counts the queries whose answer is among them: that is
/// [`RecallAt`](super::RecallAt) at a fifth of the gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrecisionInTop {
    /// How much of the gallery, in percent, above 0.
    pub percent: u32,
}

impl Metric for PrecisionInTop {
    fn name(&self) -> String {
        format!("P@{}%", self.percent)
    }

    fn of(&self, ranks: &[u32], gallery: usize) -> f64 {
        let top = (gallery as u64 * u64::from(self.percent)).div_ceil(100) as u32;
        count_within(ranks, top) as f64 / f64::from(top)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn of_the_first_two_and_the_first_four_of_eight() {
        // 20 % of 8 is 1.6, so the first 2: one answer for captions 0 and 2.
        check(PrecisionInTop { percent: 20 }, [0.5, 0., 0.5, 0.], 0.25);
        check(PrecisionInTop { percent: 50 }, [0.25, 0., 0.5, 0.5], 0.3125); // 5 / 4 / 4
    }
}

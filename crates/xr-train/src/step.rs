use std::{collections::BTreeMap, iter, ops::Range};

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Device, Gradients, Tensor},
};
use rand::RngCore;
use xr_models::{HeadOutput, Reconstruction};

use crate::{Batch, Labels, Loss, ObjectiveConfig, Result, TrainConfig, Trainable};

/// What one batch gives.
pub(crate) struct Step {
    pub loss: f64,
    pub parts: BTreeMap<String, f64>,
    pub temperature: Option<f64>,
    pub gradients: GradientsParams,
}

/// Rows of a batch that go through the model together.
struct Piece {
    rows: Range<usize>,
    /// Of its dropout.
    seed: u64,
    /// Which of the devices has it.
    device: usize,
}

impl Step {
    /// Loss and gradients of `model` on a batch, which these devices share out. The model and the
    /// batch are on the first. Dropout draws from seeds that `rng` gives.
    pub(crate) fn of<M: Trainable>(
        model: &M,
        batch: &M::Batch,
        labels: &Labels,
        config: &TrainConfig,
        devices: &[Device],
        rng: &mut impl RngCore,
    ) -> Result<Self> {
        let all = labels.pictures.len();
        let share = all.div_ceil(devices.len());
        let rows = config.micro_batch.map_or(share, |rows| share.min(rows.get()));
        if rows < all {
            let starts = (0..all).step_by(rows).enumerate();
            let pieces = starts.map(|(i, start)| Piece {
                rows: start..all.min(start + rows),
                seed: rng.next_u64(),
                device: i % devices.len(),
            });
            let pieces: Vec<_> = pieces.collect();
            return Self::piecewise(model, batch, labels, &pieces, config, devices);
        }
        devices[0].seed(rng.next_u64());
        let output = config.precision.of(model).forward(batch);
        let loss = config.objective.loss(&output, labels)?;
        let gradients = |loss: &Loss| GradientsParams::from_grads(loss.total.backward(), model);
        Ok(Self::new(&loss, &output, &config.objective, gradients))
    }

    /// The same in little memory, or on several devices: gradient caching (Gao et al. 2021, "Scaling
    /// Deep Contrastive Learning Batch Size under Memory Limited Setup"). Pieces go through the model
    /// without a graph; the loss of all outputs together gives a gradient to each; then every piece
    /// goes through again, drawing the same dropout, and takes its gradients to the weights. Where each
    /// device has one piece alone, it keeps the graph, and one pass is enough.
    ///
    /// One thread asks all devices in turn: those that compute while more is asked of them, as GPUs
    /// do, work side by side.
    fn piecewise<M: Trainable>(
        model: &M,
        batch: &M::Batch,
        labels: &Labels,
        pieces: &[Piece],
        config: &TrainConfig,
        devices: &[Device],
    ) -> Result<Self> {
        let (objective, precision) = (&config.objective, config.precision);
        let copies = devices[1..].iter().map(|device| model.clone().fork(device));
        let models: Vec<M> = iter::once(model.clone()).chain(copies).collect();
        let forward = |models: &[M], piece: &Piece| {
            let device = &devices[piece.device];
            device.seed(piece.seed);
            // Rounded anew, as the graph of the rounding is gone after one backward pass.
            precision
                .of(&models[piece.device])
                .forward(&batch.rows(piece.rows.clone()).to_device(device))
        };
        let once = pieces.len() <= devices.len();
        // Copies with running statistics of their own: only the second pass moves the model's.
        let graphless = |model: &M| model.valid().train().no_grad();
        let first = if once { models.clone() } else { models.iter().map(graphless).collect() };
        let outputs: Vec<_> = pieces.iter().map(|piece| forward(&first, piece)).collect();
        let whole = leaves(&outputs, &devices[0]);
        let loss = objective.loss(&whole, labels)?;
        let gradients = |loss: &Loss| {
            let cache = Cache::new(&whole, loss.total.backward());
            let mut sums: Vec<_> = devices.iter().map(|_| GradientsAccumulator::new()).collect();
            for (piece, output) in pieces.iter().zip(outputs) {
                let output = if once { output } else { forward(&models, piece) };
                let product = cache.product(&output, piece, &devices[piece.device]);
                let gradients =
                    GradientsParams::from_grads(product.backward(), &models[piece.device]);
                sums[piece.device].accumulate(model, gradients);
            }
            total(model, sums, &devices[0])
        };
        Ok(Self::new(&loss, &whole, objective, gradients))
    }

    fn new(
        loss: &Loss,
        output: &HeadOutput,
        objective: &ObjectiveConfig,
        gradients: impl FnOnce(&Loss) -> GradientsParams,
    ) -> Self {
        let terms = [&loss.total, &output.logit_scale].into_iter();
        let terms = terms.chain(loss.parts.iter().map(|(_, term)| term));
        let values = numbers(terms.cloned());
        let names = loss.parts.iter().map(|(name, _)| name.to_string());
        Self {
            loss: values[0],
            temperature: objective.has_temperature().then(|| 1.0 / values[1]),
            parts: names.zip(values[2..].iter().copied()).collect(),
            gradients: gradients(loss),
        }
    }
}

/// The gradient of a loss with respect to each tensor of a batch's outputs.
struct Cache {
    rows: Vec<Option<Tensor<2>>>,
    scalars: [Option<Tensor<1>>; 2],
}

impl Cache {
    fn new(outputs: &HeadOutput, mut gradients: Gradients) -> Self {
        let rows = by_row(outputs).map(|x| x.grad_remove(&mut gradients)).collect();
        let scalars = scalars(outputs).map(|x| x.grad_remove(&mut gradients));
        Self { rows, scalars }
    }

    /// What has the gradients of the loss, as far as they come through these rows: the sum of all
    /// outputs times their gradients. Temperature and bias, which have no rows, count with the first.
    fn product(&self, outputs: &HeadOutput, piece: &Piece, device: &Device) -> Tensor<1> {
        let of_rows = by_row(outputs).zip(&self.rows).filter_map(|(output, gradient)| {
            let gradient = gradient.clone()?.slice_dim(0, piece.rows.clone());
            Some((output.clone() * Tensor::from_inner(gradient).to_device(device)).sum())
        });
        let of_all = scalars(outputs).into_iter().zip(&self.scalars).filter_map(|(x, gradient)| {
            let gradient = gradient.clone().filter(|_| piece.rows.start == 0)?;
            Some(x.clone() * Tensor::from_inner(gradient).to_device(device))
        });
        of_rows.chain(of_all).reduce(|a, b| a + b).expect("a loss depends on the outputs")
    }
}

/// The gradients of all devices together, on one.
fn total<M: Trainable>(
    model: &M,
    sums: Vec<GradientsAccumulator<M>>,
    device: &Device,
) -> GradientsParams {
    let device = device.clone().without_autodiff();
    let mut total = GradientsAccumulator::new();
    for mut sum in sums {
        total.accumulate(model, sum.grads().to_device(&device, model));
    }
    total.grads()
}

/// The outputs of all pieces as one, from which gradients go no further back.
fn leaves(pieces: &[HeadOutput], device: &Device) -> HeadOutput {
    let all = |of: &dyn Fn(&HeadOutput) -> &Tensor<2>| {
        let pieces = pieces.iter().map(|piece| of(piece).clone().to_device(device));
        Tensor::cat(pieces.collect(), 0).detach()
    };
    let reconstruction = |i: usize| Reconstruction {
        output: all(&|piece| &piece.reconstructions[i].output).require_grad(),
        target: all(&|piece| &piece.reconstructions[i].target),
    };
    let first = &pieces[0];
    HeadOutput {
        image: all(&|piece| &piece.image).require_grad(),
        text: all(&|piece| &piece.text).require_grad(),
        reconstructions: (0..first.reconstructions.len()).map(reconstruction).collect(),
        logit_scale: first.logit_scale.clone().detach().require_grad(),
        logit_bias: first.logit_bias.clone().detach().require_grad(),
    }
}

fn by_row(output: &HeadOutput) -> impl Iterator<Item = &Tensor<2>> {
    let decoded = output.reconstructions.iter().map(|r| &r.output);
    [&output.image, &output.text].into_iter().chain(decoded)
}

fn scalars(output: &HeadOutput) -> [&Tensor<1>; 2] {
    [&output.logit_scale, &output.logit_bias]
}

/// Numbers read from the device in one go, each a tensor `[1]`.
pub(crate) fn numbers(tensors: impl Iterator<Item = Tensor<1>>) -> Vec<f64> {
    let tensors: Vec<_> = tensors.map(Tensor::without_autodiff).collect();
    if tensors.is_empty() {
        return vec![];
    }
    Tensor::cat(tensors, 0).try_into_vec_as().expect("tensors of floats")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use burn::{
        module::{Module, ModuleMapper, ModuleVisitor, Param},
        tensor::{Bool, Int, TensorData},
    };
    use rand::Rng;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
    use xr_data::Preprocess;
    use xr_models::{
        FeatureModel, FeatureModelConfig, HeadConfig, ImagePart, MlpConfig, Model, ModelConfig,
        PairBatch, Temperature, TextPart, TextStates, TokenBatch, Upper, UpperBatch,
        encoder::{
            BertConfig, ImageEncoderConfig, RecurrentConfig, SmallCnnConfig, TextEncoderConfig,
        },
        head::{AutoencodersConfig, DualEncoderConfig},
        ops::l2_normalize,
    };

    use super::*;
    use crate::{
        AlignmentConfig, Distillation, FeatureBatch, Precision, Teacher, Triplet, Weighted,
    };

    const ROWS: usize = 24;
    /// Rows two by two of one picture.
    const GROUPS: [u32; ROWS] =
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11];

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// With a teacher, always the same.
    fn labels() -> Labels {
        let unit = |phase: f32| {
            let values = (0..3 * ROWS).map(|i| (i as f32 + phase).sin()).collect();
            l2_normalize(Tensor::from_data(TensorData::new(values, [ROWS, 3]), &device()))
        };
        let teacher = Teacher { image: unit(0.0), text: unit(0.3) };
        Labels { teacher: Some(teacher), ..Labels::of(GROUPS.into()) }
    }

    /// Always the same: a device's own numbers are shared with tests beside this one.
    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        uniform(&mut ChaCha8Rng::seed_from_u64(D as u64), shape)
    }

    /// Of variance 1.
    fn uniform<const D: usize>(rng: &mut ChaCha8Rng, shape: [usize; D]) -> Tensor<D> {
        let values =
            (0..shape.iter().product()).map(|_| rng.random_range(-3f32.sqrt()..3f32.sqrt()));
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &device())
    }

    /// Gives weights always the same values, matrices those of their usual variance.
    struct Drawn(ChaCha8Rng);

    impl ModuleMapper for Drawn {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|old| {
                let inputs: usize = old.dims().iter().skip(1).product();
                let drawn = uniform(&mut self.0, old.dims()) / (inputs as f64).sqrt();
                let drawn = if D == 1 { drawn * 0.1 + 0.5 } else { drawn };
                drawn.require_grad()
            })
        }
    }

    fn drawn<M: Module>(model: M) -> M {
        model.map(&mut Drawn(ChaCha8Rng::seed_from_u64(7)))
    }

    /// A dual encoder without dropout, and a learned temperature.
    fn features(image: usize, text: usize) -> FeatureModelConfig {
        let linear = || MlpConfig::new(vec![]);
        let head = DualEncoderConfig::new().with_latent(6);
        let head = HeadConfig::DualEncoder(head.with_image(linear()).with_text(linear()));
        FeatureModelConfig::new(image, text, head).with_temperature(Temperature::Learnable(0.2))
    }

    fn autoencoders() -> FeatureModel {
        let layers = || MlpConfig::new(vec![9]);
        let head =
            AutoencodersConfig::new().with_latent(6).with_image(layers()).with_text(layers());
        let config = FeatureModelConfig::new(7, 5, HeadConfig::CrossAe(head))
            .with_temperature(Temperature::Learnable(0.2));
        drawn(config.init(&device()))
    }

    fn model_config() -> ModelConfig {
        let image = SmallCnnConfig::new().with_channels(vec![4, 8]);
        let image = ImagePart::new(ImageEncoderConfig::SmallCnn(image), Preprocess::unit(16));
        let text = RecurrentConfig::new(11).with_width(8).with_dropout(0.0);
        let text = TextPart::new(TextEncoderConfig::Recurrent(text), 6);
        ModelConfig::new(vec![image], text, features(8, 8))
    }

    /// Without batch norms.
    fn model() -> Model {
        let model = model_config().init(&device()).unwrap();
        let image = model.image.into_iter().map(|encoder| encoder.folded()).collect();
        drawn(Model { image, ..model })
    }

    fn pairs() -> PairBatch {
        let ids: Vec<i64> = (0..6 * ROWS as i64).map(|i| i * i % 11).collect();
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device()).reshape([ROWS, 6]);
        let mask = Tensor::<2, Bool>::full([ROWS, 6], true, &device());
        PairBatch { pixels: vec![random([ROWS, 3, 16, 16])], texts: TokenBatch { ids, mask } }
    }

    fn upper() -> Upper {
        let text = BertConfig::new(10, 8, 2, 2, 16).with_positions(8).with_dropout(0.0);
        let text = TextPart::new(TextEncoderConfig::Bert(text), 8);
        let model = ModelConfig { text, ..model_config() }.init(&Device::flex()).unwrap();
        drawn(model.cut(&[1], 1).unwrap().1.train())
    }

    /// Pictures are in two pairs each, texts in two groups of other lengths.
    fn upper_pairs() -> UpperBatch {
        let texts = [(8, 3), (16, 5)].map(|(texts, tokens)| TextStates {
            states: random([texts, tokens, 8]),
            mask: Tensor::full([texts, tokens], true, &device()),
        });
        let text_of: Vec<u32> = (0..ROWS as u32).map(|row| row * 7 % ROWS as u32).collect();
        UpperBatch {
            image: vec![random([12, 4, 8, 8])],
            picture_of: Tensor::from_data(GROUPS.as_slice(), &device()),
            texts: texts.into(),
            text_of: Tensor::from_data(text_of.as_slice(), &device()),
        }
    }

    /// Half InfoNCE, half hinge, and reconstruction.
    fn objective() -> ObjectiveConfig {
        let terms =
            [(AlignmentConfig::InfoNce, 0.5), (AlignmentConfig::Triplet(Triplet::default()), 5.0)];
        let alignment = terms.map(|(loss, weight)| Weighted { loss, weight }).into();
        let distillation = Some(Distillation { weight: 2.0, temperature: 0.3 });
        ObjectiveConfig { alignment, reconstruction_weight: 0.5, distillation }
    }

    fn step<M: Trainable>(
        model: &M,
        batch: &M::Batch,
        micro_batch: Option<usize>,
        devices: usize,
    ) -> Step {
        let micro_batch = micro_batch.and_then(NonZeroUsize::new);
        step_by(model, batch, &TrainConfig { micro_batch, ..TrainConfig::default() }, devices)
    }

    fn step_by<M: Trainable>(
        model: &M,
        batch: &M::Batch,
        config: &TrainConfig,
        devices: usize,
    ) -> Step {
        let config = TrainConfig { objective: objective(), ..config.clone() };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        Step::of(model, batch, &labels(), &config, &vec![device(); devices], &mut rng).unwrap()
    }

    /// The gradients of each parameter.
    fn gradients<M: Module>(model: &M, step: &Step) -> Vec<Vec<f32>> {
        struct All<'a>(&'a GradientsParams, Vec<Vec<f32>>);
        impl ModuleVisitor for All<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.0.get::<D>(param.id);
                self.1.extend(gradient.map(|gradient| gradient.try_into_vec_as().unwrap()));
            }
        }
        let mut all = All(&step.gradients, vec![]);
        model.visit(&mut all);
        all.1
    }

    fn length(values: impl Iterator<Item = f32>) -> f64 {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    }

    #[track_caller]
    fn assert_pieces_equal_the_whole<M: Trainable>(model: &M, batch: &M::Batch) {
        let whole = step(model, batch, None, 1);
        let expected = gradients(model, &whole);
        let all = length(expected.iter().flatten().copied());
        assert!(expected.len() > 4 && all > 0.01, "{} gradients of length {all}", expected.len());
        let rows = [1, 5, 8, 23].map(|rows| (Some(rows), 1));
        for (rows, devices) in rows.into_iter().chain([(None, 2), (None, 5), (Some(5), 3)]) {
            let pieces = step(model, batch, rows, devices);
            assert!((pieces.loss - whole.loss).abs() < 1e-6 * whole.loss);
            assert_eq!(pieces.temperature, whole.temperature);
            let found = gradients(model, &pieces);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let apart = length(found.iter().zip(expected).map(|(a, b)| a - b));
                // That of a key's bias is zero, but for rounding.
                let share = apart / length(expected.iter().copied()).max(1e-3 * all);
                // Sums in another order: 1e-6 and less with most weights, 3e-6 with some.
                assert!(share < 5e-6, "{rows:?} rows a piece on {devices}: {share} apart");
            }
        }
    }

    #[test]
    fn a_dual_encoder_on_features() {
        let batch = FeatureBatch { image: random([ROWS, 7]), text: random([ROWS, 5]) };
        assert_pieces_equal_the_whole(&drawn(features(7, 5).init(&device())), &batch);
    }

    #[test]
    fn autoencoders_on_features() {
        let batch = FeatureBatch { image: random([ROWS, 7]), text: random([ROWS, 5]) };
        assert_pieces_equal_the_whole(&autoencoders(), &batch);
    }

    #[test]
    fn a_model_on_pictures_and_words() {
        assert_pieces_equal_the_whole(&model(), &pairs());
    }

    #[test]
    fn the_upper_part_of_a_model() {
        assert_pieces_equal_the_whole(&upper(), &upper_pairs());
    }

    /// In one go; five rows at a time; on two devices.
    const PIECES: [(Option<usize>, usize); 3] = [(None, 1), (Some(5), 1), (None, 2)];

    /// Every parameter has a gradient in mixed precision, of single precision and by little another,
    /// in one go and in pieces.
    #[track_caller]
    fn assert_mixed_precision_is_near<M: Trainable>(
        model: &M,
        batch: &M::Batch,
        pieces: &[(Option<usize>, usize)],
    ) {
        let single = gradients(model, &step(model, batch, None, 1));
        let all = length(single.iter().flatten().copied());
        for &(rows, devices) in pieces {
            let micro_batch = rows.and_then(NonZeroUsize::new);
            let precision = Precision::Bf16;
            let config = TrainConfig { precision, micro_batch, ..TrainConfig::default() };
            let mixed = gradients(model, &step_by(model, batch, &config, devices));
            assert_eq!(mixed.len(), single.len());
            let (found, expected) = (mixed.iter().flatten(), single.iter().flatten());
            let apart = length(found.zip(expected).map(|(a, b)| a - b)) / all;
            // bf16 rounds by up to 2⁻⁹ = .002, many times one after the other: .02 was seen.
            assert!((1e-4..5e-2).contains(&apart), "{rows:?} on {devices}: {apart} apart");
        }
    }

    #[test]
    fn a_model_in_mixed_precision() {
        assert_mixed_precision_is_near(&model(), &pairs(), &PIECES);
        // A batch norm takes its statistics from what goes through together.
        let normed = drawn(model_config().init(&device()).unwrap());
        assert_mixed_precision_is_near(&normed, &pairs(), &PIECES[..1]);
    }

    #[test]
    fn the_upper_part_of_a_model_in_mixed_precision() {
        assert_mixed_precision_is_near(&upper(), &upper_pairs(), &PIECES);
        let adapted = drawn(upper().with_adapters(2, 0));
        assert_mixed_precision_is_near(&adapted, &upper_pairs(), &PIECES);
    }

    /// With momentum 0.1, mean 1 and deviation 0 in every piece: 1 - 0.9² after two.
    #[test]
    fn running_statistics_move_once_for_each_piece() {
        use burn::nn::{BatchNorm, BatchNormConfig};
        #[derive(Module, Debug)]
        struct Normed {
            norm: BatchNorm,
            features: FeatureModel,
        }
        impl Trainable for Normed {
            type Batch = FeatureBatch;
            fn forward(&self, batch: &FeatureBatch) -> HeadOutput {
                // What the norm makes of ones is nothing; it only takes its statistics.
                let ones = self.norm.forward(batch.image.ones_like());
                self.features.forward(batch.image.clone() + ones, batch.text.clone())
            }
        }
        let norm = BatchNormConfig::new(7).init(&device());
        let model = Normed { norm, features: features(7, 5).init(&device()) };
        let batch = FeatureBatch { image: random([ROWS, 7]), text: random([ROWS, 5]) };
        step(&model, &batch, Some(12), 1);
        let mean: Vec<f32> = model.norm.running_mean.value_sync().try_into_vec_as().unwrap();
        assert!(mean.iter().all(|mean| (mean - 0.19).abs() < 1e-6), "{mean:?}");
    }
}

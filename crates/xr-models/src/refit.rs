use burn::tensor::{Tensor, TensorData};

use crate::{
    FeatureModel,
    cholesky::{Cholesky, to_array},
    mlp::Mlp,
};

/// What is added to the mean square of each input of a regression, as a share of the mean of all.
const RIDGE: f64 = 0.01;

impl FeatureModel {
    /// The model whose head makes of the features of changed encoders what it made of the features
    /// before. The last layers of its projections move, as far as ridge regression has them do.
    ///
    /// # Shapes
    /// - image: `[pictures, image_width]`, text: `[texts, text_width]`; each before and after
    pub fn refitted(mut self, image: [Tensor<2>; 2], text: [Tensor<2>; 2]) -> Self {
        let image = image.map(|x| self.image_stats.forward(x));
        let text = text.map(|x| self.text_stats.forward(x));
        for (encoder, features) in self.head.encoders().into_iter().zip([image, text]) {
            *encoder = encoder.clone().refitted(features);
        }
        self
    }
}

impl Mlp {
    fn refitted(self, [before, after]: [Tensor<2>; 2]) -> Self {
        let wanted = self.forward(before);
        // Only directions count, so each row weighs as if its output were of length 1.
        let scale = wanted.clone().square().sum_dim(1).sqrt().recip();
        let off = (wanted - self.forward(after.clone())) * scale.clone();
        let ones = Tensor::ones([after.dims()[0], 1], &after.device());
        let x = Tensor::cat(vec![self.hidden(after), ones], 1) * scale;
        self.moved(regression(x, off))
    }
}

/// The `map` for which `x · map` is near `y`, and that is small.
fn regression(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let (device, transposed) = (x.device(), x.clone().transpose());
    let mut products = to_array(transposed.clone().matmul(x));
    let ridge = RIDGE * products.diag().sum() / products.nrows() as f64;
    products.diag_mut().mapv_inplace(|x| x + ridge);
    let map = Cholesky::of(products).solve(to_array(transposed.matmul(y)));
    let shape = [map.nrows(), map.ncols()];
    Tensor::from_data(TensorData::new(map.into_raw_vec_and_offset().0, shape), &device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;
    use crate::{FeatureModelConfig, Head, HeadConfig, head::DualEncoderConfig, mlp::MlpConfig};

    fn normal(shape: [usize; 2]) -> Tensor<2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn model(hidden: &[usize]) -> FeatureModel {
        let head = DualEncoderConfig::new().with_latent(4).with_text(MlpConfig::new(hidden.into()));
        FeatureModelConfig::new(6, 5, HeadConfig::DualEncoder(head)).init(&Device::flex())
    }

    /// Features that were mixed with each other and moved are what they were to the new head.
    #[test]
    fn a_linear_change_of_the_features_is_undone() {
        let model = model(&[]);
        let [image, text] = [normal([200, 6]), normal([200, 5])];
        let mixed = image.clone() + image.clone().matmul(normal([6, 6]) * 0.1) + 0.3;
        let unchanged = [text.clone(), text.clone()];
        let found = model.clone().refitted([image.clone(), mixed.clone()], unchanged);
        let wanted = model.embed_image(image);
        let [before, after] = [&model, &found].map(|model| {
            let off = model.embed_image(mixed.clone()) - wanted.clone();
            off.square().sum_dim(1).mean().into_scalar::<f32>()
        });
        assert!(after < before / 100.0, "{after} {before}");
        let [same, text] = [&found, &model].map(|model| model.embed_text(text.clone()).into_data());
        same.assert_approx_eq::<f32>(&text, Tolerance::absolute(1e-6));
    }

    /// The regression by hand: of one feature that became twice itself, with its ridge.
    #[test]
    fn by_hand() {
        let x = Tensor::from_data([[2.0f32], [-4.0]], &Device::flex());
        let y = Tensor::from_data([[1.0f32], [-2.0]], &Device::flex());
        let found: f32 = regression(x, y).into_scalar();
        // 10 / (20 + .01 · 20).
        assert!((found - 10.0 / 20.2).abs() < 1e-6, "{found}");
    }

    #[test]
    fn only_the_last_layer_moves() {
        let model = model(&[3]);
        let (image, text) = (normal([50, 6]), normal([50, 5]));
        let changed = text.clone() * 1.1;
        let found = model.clone().refitted([image.clone(), image], [text.clone(), changed.clone()]);
        let (Head::DualEncoder(found), Head::DualEncoder(before)) = (found.head, model.head) else {
            unreachable!("both are dual encoders")
        };
        let [a, b] = [&found, &before].map(|head| head.text.hidden(text.clone()).into_data());
        a.assert_eq(&b, true);
        let [a, b] = [&found, &before].map(|head| head.text.forward(changed.clone()).into_data());
        assert_ne!(a, b);
    }
}

//! Pictures whose values lie channel by channel for each pixel, under the shape `[batch, channels,
//! height, width]`.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};

use super::{blocks, storage::contiguous};

/// The same tensor with its values in this order; copies only if they aren't.
pub(super) fn channels_last(x: FlexTensor) -> FlexTensor {
    if is_channels_last(x.layout()) { x } else { reordered(contiguous(x)) }
}

/// The values of a [`channels_last`] tensor.
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    let layout = x.layout();
    &x.storage()[layout.start_offset()..][..layout.num_elements()]
}

/// A tensor of this shape and these values in this order.
pub(super) fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    let layout = Layout::new(Shape::new(shape), strides(shape).to_vec(), 0);
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

fn strides([_, channels, height, width]: [usize; 4]) -> [isize; 4] {
    [channels * height * width, 1, channels * width, channels].map(|stride| stride as isize)
}

/// Where an axis has one place only, its stride says nothing.
fn is_channels_last(layout: &Layout) -> bool {
    let shape = layout.shape().dims();
    let axes = shape.into_iter().zip(layout.strides()).zip(strides(shape));
    axes.into_iter().all(|((places, &found), stride)| places == 1 || found == stride)
}

fn reordered(x: FlexTensor) -> FlexTensor {
    let shape @ [_, channels, height, width] = x.layout().shape().dims();
    let planes = x.as_slice().expect("a contiguous tensor of f32");
    let plane = height * width;
    let out = blocks::generate(x.layout().num_elements(), width * channels, |row, out| {
        let (picture, row) = (row / height, row % height);
        for channel in 0..channels {
            let values = &planes[(picture * channels + channel) * plane + row * width..][..width];
            let places = out[channel..].iter_mut().step_by(channels);
            places.zip(values).for_each(|(place, value)| *place = *value);
        }
    });
    tensor(out, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shape = [2, 3, 2, 2];
        let plain: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let x = channels_last(super::super::storage::tensor(plain.clone(), Shape::new(shape)));
        assert_eq!(values(&x)[..4], [0.0, 4.0, 8.0, 1.0]);
        let same = channels_last(x.clone());
        assert_eq!(values(&same).as_ptr(), values(&x).as_ptr());
        assert_eq!(x.to_contiguous().as_slice::<f32>().unwrap(), plain);
    }
}

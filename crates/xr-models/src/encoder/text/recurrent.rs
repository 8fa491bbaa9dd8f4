use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{
        Bool, Device, Int, Tensor,
        activation::{sigmoid, tanh},
    },
};

use crate::ops::{self, masked_mean};

/// Configuration of a [`Recurrent`].
#[derive(Config, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// Number of tokens known.
    pub vocabulary: usize,
    /// What computes one state from the last.
    #[config(default = "Cell::Lstm")]
    pub cell: Cell,
    /// Width of a token's embedding.
    #[config(default = 128)]
    pub embedding: usize,
    /// Width of the state in each direction.
    #[config(default = 128)]
    pub hidden: usize,
    /// Width of the features.
    #[config(default = 256)]
    pub width: usize,
    /// Probability of dropping a value of the embeddings while training.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// What computes one state from the last.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997), with a forget gate.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014), reset after the product as in PyTorch.
    Gru,
}

/// Word embeddings, read in both directions, the mean of their states, and a linear map.
///
/// Padding changes nothing: a state passes it unaltered, so that reading backwards begins at the
/// last token.
///
/// Not built from `burn::nn::Lstm`: that makes two products for each gate and step and copies the
/// whole output at each step, and knows no padding. Here the gates of all tokens are one product,
/// and each step makes one more.
#[derive(Module, Debug)]
pub struct Recurrent {
    words: Embedding,
    dropout: Dropout,
    forward: Reader,
    backward: Reader,
    output: Linear,
}

/// Reads in one direction. The gates lie side by side in the order of PyTorch's weights: input,
/// forget, cell, output for an LSTM; reset, update, new for a GRU.
#[derive(Module, Debug)]
struct Reader {
    input: Linear,
    hidden: Linear,
    #[module(skip)]
    cell: Cell,
}

/// What passes from one token to the next.
#[derive(Clone)]
struct State {
    /// `[batch, hidden]`, what is seen of the state.
    hidden: Tensor<2>,
    /// `[batch, hidden]`, an LSTM's memory; a GRU leaves it alone.
    memory: Tensor<2>,
}

impl RecurrentConfig {
    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> Recurrent {
        Recurrent {
            words: EmbeddingConfig::new(self.vocabulary, self.embedding).init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            forward: self.reader(device),
            backward: self.reader(device),
            output: LinearConfig::new(2 * self.hidden, self.width).init(device),
        }
    }

    fn reader(&self, device: &Device) -> Reader {
        let gates = self.cell.gates() * self.hidden;
        Reader {
            input: LinearConfig::new(self.embedding, gates).init(device),
            hidden: LinearConfig::new(self.hidden, gates).init(device),
            cell: self.cell,
        }
    }
}

impl Recurrent {
    /// Features of a batch of texts.
    ///
    /// # Shapes
    /// - ids: `[batch, tokens]`
    /// - mask: `[batch, tokens]`, true where there is a token, padding after the tokens
    /// - output: `[batch, width]`
    pub fn forward(&self, ids: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<2> {
        let [_, tokens] = ids.dims();
        let x = ops::dropout(&self.dropout, self.words.forward(ids));
        let ahead = self.forward.read(x.clone(), &mask, 0..tokens);
        let back = self.backward.read(x, &mask, (0..tokens).rev());
        self.output.forward(masked_mean(Tensor::cat(vec![ahead, back], 2), mask))
    }
}

impl Reader {
    /// The state at each token: `[batch, tokens, embedding]` → `[batch, tokens, hidden]`.
    fn read(
        &self,
        x: Tensor<3>,
        mask: &Tensor<2, Bool>,
        order: impl Iterator<Item = usize>,
    ) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let [width, _] = self.hidden.weight.dims();
        let gates = self.input.forward(x);
        let nothing = Tensor::zeros([batch, width], &gates.device());
        let mut state = State { hidden: nothing.clone(), memory: nothing };
        let mut states = vec![state.hidden.clone(); tokens];
        for t in order {
            let padding = mask.clone().narrow(1, t, 1).bool_not().expand([batch, width]);
            let gates = gates.clone().narrow(1, t, 1).squeeze_dim(1);
            let next = self.cell.step(gates, self.hidden.forward(state.hidden.clone()), &state);
            state = next.unless(padding, state);
            states[t] = state.hidden.clone();
        }
        Tensor::stack(states, 1)
    }
}

impl State {
    /// This state, or `other` where `condition` holds.
    fn unless(self, condition: Tensor<2, Bool>, other: Self) -> Self {
        Self {
            hidden: self.hidden.mask_where(condition.clone(), other.hidden),
            memory: self.memory.mask_where(condition, other.memory),
        }
    }
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// One token on. `input` and `hidden` are the gates' sums over the token and over the last
    /// state, `[batch, gates * hidden]`.
    fn step(self, input: Tensor<2>, hidden: Tensor<2>, last: &State) -> State {
        match self {
            Self::Lstm => lstm(input + hidden, last),
            Self::Gru => gru(input, hidden, last),
        }
    }
}

fn lstm(gates: Tensor<2>, last: &State) -> State {
    let [input, forget, cell, output] = parts(gates);
    let memory = sigmoid(forget) * last.memory.clone() + sigmoid(input) * tanh(cell);
    State { hidden: sigmoid(output) * tanh(memory.clone()), memory }
}

fn gru(input: Tensor<2>, hidden: Tensor<2>, last: &State) -> State {
    let [input_reset, input_update, input_new] = parts(input);
    let [hidden_reset, hidden_update, hidden_new] = parts(hidden);
    let reset = sigmoid(input_reset + hidden_reset);
    let update = sigmoid(input_update + hidden_update);
    let new = tanh(input_new + reset * hidden_new);
    let hidden = new.clone() + update * (last.hidden.clone() - new);
    State { hidden, memory: last.memory.clone() }
}

/// `N` parts side by side: `[batch, N * width]` → `[batch, width]` each.
fn parts<const N: usize>(gates: Tensor<2>) -> [Tensor<2>; N] {
    let parts = gates.chunk(N, 1);
    parts.try_into().expect("the gates are N times as wide as the state")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    /// Our names of the readers, and PyTorch's of a bidirectional network.
    fn pytorch_name(ours: &str) -> String {
        let [reader, part, tensor] = ours.split('.').collect::<Vec<_>>()[..] else {
            return ours.into();
        };
        let part = if part == "input" { "ih" } else { "hh" };
        let suffix = if reader == "backward" { "_reverse" } else { "" };
        format!("rnn.{tensor}_{part}_l0{suffix}")
    }

    fn tiny(cell: Cell, device: &Device) -> (Fixture, Recurrent) {
        let fixture = Fixture::open(match cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        });
        let config = RecurrentConfig::new(20).with_cell(cell);
        let config = config.with_embedding(5).with_hidden(4).with_width(3);
        let encoder = fixture.load(config.init(device), pytorch_name);
        (fixture, encoder)
    }

    fn equals_a_packed_sequence(cell: Cell) {
        let device = Device::flex().autodiff();
        let (fixture, encoder) = tiny(cell, &device);
        let (ids, mask) = fixture.texts(&device);
        let features = encoder.forward(ids, mask);
        fixture.assert("features", features.clone());
        let gradients = (features * fixture.tensor("probe", &device)).sum().backward();
        let of_words = encoder.words.weight.grad(&gradients).unwrap();
        fixture.assert("gradient_words", of_words);
        let of_hidden = encoder.backward.hidden.weight.grad(&gradients).unwrap();
        fixture.assert("gradient_backward_hidden", of_hidden.transpose());
    }

    #[test]
    fn an_lstm_equals_pytorch_on_a_packed_sequence() {
        equals_a_packed_sequence(Cell::Lstm);
    }

    #[test]
    fn a_gru_equals_pytorch_on_a_packed_sequence() {
        equals_a_packed_sequence(Cell::Gru);
    }

    #[test]
    fn padding_changes_nothing() {
        let device = Device::flex();
        for cell in [Cell::Lstm, Cell::Gru] {
            let (fixture, encoder) = tiny(cell, &device);
            let (ids, mask) = fixture.texts(&device);
            let [batch, _] = ids.dims();
            let ids = Tensor::cat(vec![ids, Tensor::full([batch, 3], 7, &device)], 1);
            let none = Tensor::<2, Int>::zeros([batch, 3], &device).equal_elem(1);
            fixture.assert("features", encoder.forward(ids, Tensor::cat(vec![mask, none], 1)));
        }
    }
}

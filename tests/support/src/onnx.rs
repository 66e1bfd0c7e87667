//! Small ONNX files for tests, written by hand as protocol buffers (onnx.proto3, IR version 8, opset 17).

use std::path::Path;

/// A protocol buffer message under construction.
#[derive(Default, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, field: u32, value: u64) -> Self {
        self.raw_varint(u64::from(field) << 3);
        self.raw_varint(value);
        self
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.raw_varint(u64::from(field) << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u32, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// `TensorProto.DataType` of the types that tests use.
pub const FLOAT: u64 = 1;
pub const UINT8: u64 = 2;
pub const INT8: u64 = 3;
pub const INT64: u64 = 7;
pub const FLOAT16: u64 = 10;
pub const DOUBLE: u64 = 11;
pub const BFLOAT16: u64 = 16;

/// A graph under construction; free dimensions are given as 0.
#[derive(Default)]
pub struct Graph {
    graph: Message,
    /// 17 where none is set.
    opset: Option<u64>,
    /// There are operators of ONNX Runtime's own.
    has_own: bool,
    model: Message,
}

/// The domain of ONNX Runtime's own operators.
const OWN_DOMAIN: &[u8] = b"com.microsoft";

/// An operator without attributes.
fn bare_node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input.as_bytes()));
    node.bytes(2, output.as_bytes()).bytes(4, operator.as_bytes())
}

impl Graph {
    fn value(name: &str, element: u64, shape: &[u64]) -> Message {
        let dims = shape.iter().enumerate().fold(Message::default(), |dims, (axis, &size)| {
            let dim = Message::default();
            let dim = if size == 0 { dim.bytes(2, format!("d{axis}").as_bytes()) } else { dim.varint(1, size) };
            dims.message(1, dim)
        });
        let tensor = Message::default().varint(1, element).message(2, dims);
        Message::default().bytes(1, name.as_bytes()).message(2, Message::default().message(1, tensor))
    }

    /// An f32 input.
    pub fn input(self, name: &str, shape: &[u64]) -> Self {
        self.typed_input(name, FLOAT, shape)
    }

    /// An input of any type.
    pub fn typed_input(mut self, name: &str, element: u64, shape: &[u64]) -> Self {
        self.graph = self.graph.message(11, Self::value(name, element, shape));
        self
    }

    /// An f32 output.
    pub fn output(self, name: &str, shape: &[u64]) -> Self {
        self.typed_output(name, FLOAT, shape)
    }

    /// An output of any type.
    pub fn typed_output(mut self, name: &str, element: u64, shape: &[u64]) -> Self {
        self.graph = self.graph.message(12, Self::value(name, element, shape));
        self
    }

    /// A constant f32 tensor.
    pub fn constant(mut self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let mut tensor = shape.iter().fold(Message::default(), |tensor, &size| tensor.varint(1, size)).varint(2, 1);
        tensor = tensor.bytes(8, name.as_bytes());
        tensor = tensor.bytes(9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        self.graph = self.graph.message(5, tensor);
        self
    }

    /// A constant list of integers.
    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        let tensor = Message::default().varint(1, values.len() as u64).varint(2, INT64).bytes(8, name.as_bytes());
        let tensor = tensor.bytes(9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        self.graph = self.graph.message(5, tensor);
        self
    }

    /// A constant of 8-bit integers, `UINT8` or `INT8`; a scalar for an empty shape.
    pub fn bytes(mut self, name: &str, element: u64, shape: &[u64], values: &[u8]) -> Self {
        let tensor = shape.iter().fold(Message::default(), |tensor, &size| tensor.varint(1, size)).varint(2, element);
        self.graph = self.graph.message(5, tensor.bytes(8, name.as_bytes()).bytes(9, values));
        self
    }

    /// The operator set.
    pub fn opset(mut self, version: u64) -> Self {
        self.opset = Some(version);
        self
    }

    /// A note beside the graph.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        let pair = Message::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
        self.model = self.model.message(14, pair);
        self
    }

    /// Another order of axes.
    pub fn transpose(self, input: &str, output: &str, order: &[u64]) -> Self {
        self.node("Transpose", &[input], output, &[("perm", order)])
    }

    /// Another shape.
    pub fn reshape(self, input: &str, output: &str, shape: &[i64]) -> Self {
        let name = format!("{output}.shape");
        self.integers(&name, shape).node("Reshape", &[input, &name], output, &[])
    }

    /// An operator; `ints` are attributes that are lists of integers.
    pub fn node(mut self, operator: &str, inputs: &[&str], output: &str, ints: &[(&str, &[u64])]) -> Self {
        let mut node = bare_node(operator, inputs, output);
        for (name, values) in ints {
            let attribute =
                values.iter().fold(Message::default().bytes(1, name.as_bytes()), |all, &value| all.varint(8, value));
            node = node.message(5, attribute.varint(20, 7));
        }
        self.graph = self.graph.message(1, node);
        self
    }

    /// An operator of ONNX Runtime's own.
    pub fn own_node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.graph = self.graph.message(1, bare_node(operator, inputs, output).bytes(7, OWN_DOMAIN));
        self.has_own = true;
        self
    }

    /// An operator with attributes that are one integer each.
    pub fn node_with(mut self, operator: &str, inputs: &[&str], output: &str, integers: &[(&str, u64)]) -> Self {
        let mut node = bare_node(operator, inputs, output);
        for &(name, value) in integers {
            node = node.message(5, Message::default().bytes(1, name.as_bytes()).varint(3, value).varint(20, 2));
        }
        self.graph = self.graph.message(1, node);
        self
    }

    /// A 1x1 convolution with a stride and made-up weights.
    pub fn conv(self, input: &str, output: &str, from: u64, to: u64, stride: u64) -> Self {
        let weights = format!("{output}.weight");
        let values: Vec<f32> = (0..from * to).map(|n| ((n * 7 + 3) % 11) as f32 / 5.0 - 1.0).collect();
        self.constant(&weights, &[to, from, 1, 1], &values).node(
            "Conv",
            &[input, &weights],
            output,
            &[("strides", &[stride, stride])],
        )
    }

    /// Enlarges a map to `sizes`.
    pub fn resize(mut self, input: &str, output: &str, sizes: &[u64]) -> Self {
        let name = format!("{output}.sizes");
        let tensor = Message::default().varint(1, sizes.len() as u64).varint(2, INT64).bytes(8, name.as_bytes());
        let tensor = tensor.bytes(9, &sizes.iter().flat_map(|size| size.to_le_bytes()).collect::<Vec<_>>());
        self.graph = self.graph.message(5, tensor);
        self.node("Resize", &[input, "", "", &name], output, &[])
    }

    /// A weight that lies in another file.
    pub fn external(mut self, name: &str, shape: &[u64], location: &str) -> Self {
        let tensor = shape.iter().fold(Message::default(), |tensor, &size| tensor.varint(1, size)).varint(2, FLOAT);
        let pair = Message::default().bytes(1, b"location").bytes(2, location.as_bytes());
        let tensor = tensor.bytes(8, name.as_bytes()).message(13, pair).varint(14, 1);
        self.graph = self.graph.message(5, tensor);
        self
    }

    /// The bytes of the model file.
    pub fn encoded(self) -> Vec<u8> {
        let graph = self.graph.bytes(2, b"test");
        let opset = Message::default().bytes(1, b"").varint(2, self.opset.unwrap_or(17));
        let mut file = Message::default().varint(1, 8).message(7, graph).message(8, opset);
        if self.has_own {
            file = file.message(8, Message::default().bytes(1, OWN_DOMAIN).varint(2, 1));
        }
        file.0.extend(self.model.0);
        file.0
    }

    /// Writes the model file.
    pub fn save(self, path: &Path) {
        std::fs::write(path, self.encoded()).unwrap();
    }
}

/// Weights that differ from channel to channel, for a 1x1 convolution from 3 channels.
fn weights(channels: u64) -> Vec<f32> {
    (0..channels * 3).map(|n| ((n * 7 + 3) % 11) as f32 / 5.0 - 1.0).collect()
}

/// A network of two 1x1 convolutions: `logits` with 4 classes at half size, `features` with 8 channels at a quarter size.
pub fn tiny(width: u64, height: u64) -> Graph {
    Graph::default()
        .input("input", &[1, 3, height, width])
        .constant("wl", &[4, 3, 1, 1], &weights(4))
        .constant("wf", &[8, 3, 1, 1], &weights(8))
        .node("Conv", &["input", "wl"], "logits", &[("strides", &[2, 2])])
        .node("Conv", &["input", "wf"], "features", &[("strides", &[4, 4])])
        .output("logits", &[1, 4, height / 2, width / 2])
        .output("features", &[1, 8, height / 4, width / 4])
}

/// The network of [`tiny`] whose logits are not numbers.
pub fn not_a_number(width: u64, height: u64) -> Graph {
    Graph::default()
        .input("input", &[1, 3, height, width])
        .constant("wl", &[4, 3, 1, 1], &weights(4))
        .constant("low", &[1], &[-1e6])
        .node("Conv", &["input", "wl"], "sum", &[("strides", &[4, 4])])
        .node("Add", &["sum", "low"], "negative", &[])
        .node("Sqrt", &["negative"], "logits", &[])
        .node("Identity", &["sum"], "features", &[])
        .output("logits", &[1, 4, height / 4, width / 4])
        .output("features", &[1, 4, height / 4, width / 4])
}

/// A graph whose input is not a picture: rank 3.
pub fn wrong_rank() -> Graph {
    Graph::default().input("input", &[3, 8, 8]).node("Identity", &["input"], "logits", &[]).output("logits", &[3, 8, 8])
}

/// A classifier: a picture in, no map out.
pub fn no_logits() -> Graph {
    Graph::default()
        .input("input", &[1, 3, 8, 8])
        .node("GlobalAveragePool", &["input"], "pooled", &[])
        .node("Flatten", &["pooled"], "classes", &[])
        .output("classes", &[1, 3])
}

/// Pixels passed through: `logits` as they are (3 channels), `features` as means of `pool x pool`; the batch as given, 0: free.
pub fn pass_through(width: u64, height: u64, pool: u64, batch: u64) -> Graph {
    Graph::default()
        .input("input", &[batch, 3, height, width])
        .node("Identity", &["input"], "logits", &[])
        .node("AveragePool", &["input"], "features", &[("kernel_shape", &[pool, pool]), ("strides", &[pool, pool])])
        .output("logits", &[batch, 3, height, width])
        .output("features", &[batch, 3, height / pool, width / pool])
}

/// A network that cannot be run on a picture with anything bright in it: it looks up a place that is not there.
pub fn fails_on_white(width: u64, height: u64) -> Graph {
    Graph::default()
        .input("input", &[1, 3, height, width])
        .constant("w", &[2, 3, 1, 1], &[-1.0; 6])
        .constant("half", &[1], &[-0.5])
        .constant("zero", &[1], &[0.0])
        .node("Add", &["input", "half"], "shifted", &[])
        .node("Relu", &["shifted"], "bright", &[])
        .node("NonZero", &["bright"], "places", &[])
        .node("Size", &["places"], "count", &[])
        .node("Gather", &["zero", "count"], "nothing", &[])
        .node("Conv", &["input", "w"], "sum", &[])
        .node("Add", &["sum", "nothing"], "logits", &[])
        .output("logits", &[1, 2, height, width])
}

/// A network whose features are quantised: a pair of operators behind the first convolution, and weights of 8 bits. With
/// `relu` the activation stands in front of the pair; without it the range, which begins at 0, does its work.
pub fn quantised(relu: bool) -> Graph {
    let codes: Vec<u8> = (0..8 * 6).map(|n| ((n * 7 + 3) % 11) as u8).collect();
    let graph = Graph::default()
        .input("input", &[1, 3, 64, 64])
        .constant("scale", &[], &[0.05])
        .bytes("zero", UINT8, &[], &[0])
        .bytes("none", INT8, &[], &[0])
        .bytes("codes", INT8, &[6, 8, 1, 1], &codes)
        .conv("input", "first", 3, 8, 4);
    let (graph, last) = if relu { (graph.node("Relu", &["first"], "relu", &[]), "relu") } else { (graph, "first") };
    graph
        .node("QuantizeLinear", &[last, "scale", "zero"], "small", &[])
        .node("DequantizeLinear", &["small", "scale", "zero"], "features", &[])
        .node("DequantizeLinear", &["codes", "scale", "none"], "weights", &[])
        .node("Conv", &["features", "weights"], "logits", &[])
        .output("features", &[1, 8, 16, 16])
        .output("logits", &[1, 6, 16, 16])
}

/// Two classes, both the less likely the brighter a pixel is: what is white is unknown. No features.
pub fn white_is_unknown(width: u64, height: u64) -> Graph {
    Graph::default()
        .input("input", &[1, 3, height, width])
        .constant("w", &[2, 3, 1, 1], &[-1.0; 6])
        .node("Conv", &["input", "w"], "logits", &[])
        .output("logits", &[1, 2, height, width])
}

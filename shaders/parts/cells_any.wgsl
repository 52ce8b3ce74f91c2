// Cells of four values as they lie in buffers, and how they are read and written: 16 bytes of floats, 8 bytes of halves.
// Here a cell is what WGSL has for it. On processors that play GPU parts/cells_eight.wgsl stands here.
//
// The storage and output parts are written in these words, and kernels whose f32 buffers are large.

alias Floats = vec4<f32>;
alias Halves = vec2<u32>;

fn floats(cell: Floats) -> vec4<f32> { return cell; }
fn cell_of_floats(v: vec4<f32>) -> Floats { return v; }

fn halves(cell: Halves) -> vec2<u32> { return cell; }
fn cell_of_halves(v: vec2<u32>) -> Halves { return v; }

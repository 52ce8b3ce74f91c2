// Eight cells that all invocations of a workgroup need. Here every invocation loads all eight itself: hardware serves
// invocations that read one address with one access. On processors that play GPU parts/loads_eight.wgsl stands here.
//
// The kernel declares `place(i)`, where the i-th of its shared rows lies, and `cell(operand, place, offset)`, which loads.

struct Eight { low: mat4x4<f32>, high: mat4x4<f32> }

struct Places { low: vec4<u32>, high: vec4<u32> }

// The places of eight rows from `first` on; `lane` is the invocation's number in its workgroup.
fn places(first: u32, lane: u32) -> Places {
    return Places(vec4(place(first), place(first + 1u), place(first + 2u), place(first + 3u)),
        vec4(place(first + 4u), place(first + 5u), place(first + 6u), place(first + 7u)));
}

// One cell of each of eight rows.
fn eight(operand: u32, at: Places, offset: u32) -> Eight {
    let low = mat4x4(cell(operand, at.low.x, offset), cell(operand, at.low.y, offset), cell(operand, at.low.z, offset),
        cell(operand, at.low.w, offset));
    let high = mat4x4(cell(operand, at.high.x, offset), cell(operand, at.high.y, offset),
        cell(operand, at.high.z, offset), cell(operand, at.high.w, offset));
    return Eight(low, high);
}

// Nothing is asked for early here: hardware waits for many loads at once. parts/loads_eight.wgsl says more.
fn ask_early(operand: u32, first: u32, lane: u32, offsets: vec4<u32>) -> u32 { return 0u; }
fn nothing_of(asked: u32, number: u32) -> u32 { return 0u; }

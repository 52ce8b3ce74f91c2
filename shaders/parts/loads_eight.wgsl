// Eight cells that all invocations of a workgroup need. Here each of the eight invocations of a subgroup loads one of them
// and shows it to the others. Drivers that run eight invocations as one vector load for one after another even where all
// read one address: passing values on makes one such walk of eight. Elsewhere parts/loads_any.wgsl stands here.
//
// The kernel declares `place(i)`, where the i-th of its shared rows lies, and `cell(operand, place, offset)`, which loads.
// All invocations must take part, since one that returned early would show nothing, and come in workgroups of a multiple of
// eight.

struct Eight { low: mat4x4<f32>, high: mat4x4<f32> }

struct Places { own: u32 }

// The place of this invocation's share of eight rows from `first` on; `lane` is its number in its workgroup.
fn places(first: u32, lane: u32) -> Places { return Places(place(first + lane % 8u)); }

// One cell of each of eight rows.
fn eight(operand: u32, at: Places, offset: u32) -> Eight {
    let own = cell(operand, at.own, offset);
    let low = mat4x4(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u),
        subgroupBroadcast(own, 3u));
    let high = mat4x4(subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u),
        subgroupBroadcast(own, 7u));
    return Eight(low, high);
}

// Asks for the eight rows from `first` on at four later offsets, so that caches have them when they are loaded. A processor
// looks a few hundred instructions ahead, which is one cell of eight lanes: where each offset is far from the last, it would
// wait for memory at each. Here every lane asks for one of eight cache lines, two for each offset, and all are under way at
// once. What comes back is to be used with `nothing_of`, or a compiler would leave it out.
fn ask_early(operand: u32, first: u32, lane: u32, offsets: vec4<u32>) -> u32 {
    return bitcast<u32>(cell(operand, place(first + lane % 2u * 4u), offsets[lane / 2u % 4u]).x);
}
// Zero for every number below 2^31, which no compiler knows.
fn nothing_of(asked: u32, number: u32) -> u32 { return asked & (number >> 31u); }

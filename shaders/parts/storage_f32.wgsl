// Storage f32: a cell is four floats.
alias Stored4 = Floats;

fn unpack4(cell: Stored4) -> vec4<f32> {
    return floats(cell);
}

fn pack4(value: vec4<f32>) -> Stored4 {
    return cell_of_floats(value);
}

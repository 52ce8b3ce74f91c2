// Storage f32: four neighbours in memory are one vec4<f32>.
alias Stored4 = vec4<f32>;

fn unpack4(cell: Stored4) -> vec4<f32> {
    return cell;
}

fn pack4(value: vec4<f32>) -> Stored4 {
    return value;
}

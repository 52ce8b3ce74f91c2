use super::*;

const ADD: &str = "\
// c = a + b, one invocation per cell.
// parts: grid
struct Params {
    cells: u32,
}
@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Stored4>;
override CELLS_PER_GROUP: u32 = 32u;
@compute @workgroup_size(CELLS_PER_GROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let i = group_index(wid, count) * CELLS_PER_GROUP + lid;
    if i < p.cells {
        c[i] = pack4(unpack4(a[i]) + unpack4(b[i]));
    }
}
";

#[test]
fn mistakes_are_reported_with_file_and_line() {
    assert!(Foreign::new("my/add.wgsl", ADD, "add").is_ok());
    // What to change, what to say, and the line of the file; 0 for errors of the request.
    let cases = [
        ("unpack4(b[i])", "unpack4(b[i)", "add", "expected", 15),
        ("unpack4(b[i])", "unpack5(b[i])", "add", "unpack5", 15),
        ("parts: grid", "parts: grids", "add", "no part is called `grids`", 2),
        ("CELLS_PER_GROUP: u32 = 32u", "CELLS_PER_GROUP: u32", "add", "written as a number", 9),
        ("CELLS_PER_GROUP", "LANES", "add", "declare `override CELLS_PER_GROUP: u32", 0),
        ("cells: u32,", "cells: u32, rows: u32,", "add", "Params must be that of add: cells", 3),
        ("cells", "cells", "attention", "Params must be that of attention: batches", 3),
        ("cells", "cells", "dropout", "no text can stand in for `dropout`", 0),
        ("cells", "cells", "layernrom", "did you mean `layernorm`", 0),
    ];
    let mut wrong = Vec::new();
    for (find, replace, like, said, at) in cases {
        let found = Foreign::new("my/add.wgsl", &ADD.replace(find, replace), like).map(|f| f.name);
        let placed = match &found {
            Err(Error::Kernel { file, line, .. }) => file == "my/add.wgsl" && *line == at,
            Err(Error::Config { .. }) => at == 0,
            _ => false,
        };
        if !placed || !found.as_ref().is_err_and(|e| e.to_string().contains(said)) {
            wrong.push((replace, like, found.map_err(|e| e.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let marked = format!("\u{feff}{ADD}");
    assert!(Foreign::new("my/add.wgsl", &marked, "add").is_ok(), "a byte order mark");
    let bare = ADD.replace("struct Params {\n    cells: u32,\n}\n", "");
    let said = Foreign::new("my/add.wgsl", &bare, "add").map(|f| f.name).unwrap_err().to_string();
    assert!(said.contains("declare `struct Params` as add has it, with the fields cells"), "{said}");
    assert!(Foreign::new("my/add.txt", ADD, "add").is_err());
}

/// A kernel's own file is what a reader starts from: with what the contract wants declared it compiles, parts and all.
#[test]
fn a_kernels_own_file_takes_its_place() {
    let names = ["TILE_ROWS", "TILE_COLUMNS", "ROWS_PER_GROUP", "CELLS_PER_GROUP", "CHUNKS_PER_GROUP"];
    let wanted: String = names.iter().map(|name| format!("override {name}: u32 = 8u;\n")).collect();
    let source = |like: &str| ALL.iter().find(|e| e.kernel.name == like).unwrap().kernel.source;
    let failed: Vec<_> = likes()
        .into_iter()
        .filter_map(|like| Foreign::new("own.wgsl", &format!("{}{wanted}", source(like)), like).err())
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn grids_follow_from_params_and_declared_tiles() {
    let own = ALL.iter().find(|e| e.kernel.name == "matmul").unwrap().kernel;
    let module = parse(&Source::join(own, plain(own, Matrix::M16), None)).unwrap();
    let fields = fields(&module);
    let fit = |trans_b| Fit {
        sums: false,
        grid: Grid::Tiles,
        fields: fields.clone(),
        tile: [16, 32],
        constants: vec![("TRANS_A", Some(0.0)), ("TRANS_B", trans_b)],
        subgroup: None,
        epilogue: false,
        adds: false,
    };
    let mut params = vec![0; 4 * fields.len()];
    fit(None).put(&mut params, "rows", 33);
    fit(None).put(&mut params, "width", 64);
    fit(None).put(&mut params, "batches", 5);
    let set = [("TRANS_A", 0.0), ("TRANS_B", 1.0), ("BLOCKS", 4.0)];
    let fitted = fit(None).launch(&params, &set, EpilogueKind::None).unwrap();
    assert_eq!((fitted.groups, &fitted.constants[..]), (3 * 2 * 5, &[("TRANS_B", 1.0)][..]));
    let read = |name| word(&fitted.params, fit(None).at(name).unwrap()).unwrap();
    assert_eq!((read("row_tiles"), read("column_tiles"), read("rows")), (3, 2, 33));
    // Not its business: an epilogue that it does not call, a form that it does not declare.
    assert!(fit(None).launch(&params, &set, EpilogueKind::Bias).is_none());
    assert!(fit(Some(0.0)).launch(&params, &set, EpilogueKind::None).is_none());
}

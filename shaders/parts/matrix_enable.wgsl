// Cooperative matrices (experimental in wgpu): a directive, so it stands before everything else.
enable wgpu_cooperative_matrix;

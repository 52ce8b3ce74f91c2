// Cooperative matrices (experimental in wgpu), of halves: directives, so they stand before everything else.
enable wgpu_cooperative_matrix;
enable f16;

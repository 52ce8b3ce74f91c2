// Parameters lie in a ring of uniform slots, selected by a dynamic offset.
@group(2) @binding(0) var<uniform> p: Params;

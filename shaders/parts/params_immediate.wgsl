// Parameters travel inside the command (feature IMMEDIATES).
var<immediate> p: Params;

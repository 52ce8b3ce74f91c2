// GELU in its tanh form (Hendrycks and Gimpel, 2016):
//   gelu(x) = x/2 (1 + tanh(a)),   a = sqrt(2/pi) (x + 0.044715 x^3)
// written with (1 + tanh(a)) / 2 = 1 / (1 + exp(-2a)): one exponential, and no cancellation where tanh(a) nears -1.
// Beyond |x| = 8 the factor is 0 or 1 to 20 digits, so `a` is taken from x clamped there and exp(-2a) < 3e21 cannot
// overflow. The factor x itself is not clamped: large values and NaN pass through.

const GELU_SCALE = 0.7978845608028654; // sqrt(2/pi)
const GELU_CUBIC = 0.044715;

// exp(-2a)
fn gelu_exponential(x: vec4<f32>) -> vec4<f32> {
    let u = clamp(x, vec4<f32>(-8.0), vec4<f32>(8.0));
    return exp(-2.0 * GELU_SCALE * u * (1.0 + GELU_CUBIC * u * u));
}

fn gelu4(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + gelu_exponential(x));
}

// d gelu / dx = s + x s (1 - s) 2 da/dx with s = 1 / (1 + e), and s (1 - s) = e s s without the cancellation of 1 - s;
// (e s) first, for s s alone would fall below the smallest f32.
fn gelu_slope4(x: vec4<f32>) -> vec4<f32> {
    let u = clamp(x, vec4<f32>(-8.0), vec4<f32>(8.0));
    let e = gelu_exponential(x);
    let s = 1.0 / (1.0 + e);
    return s + x * (e * s) * s * (2.0 * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * u * u));
}

#!/usr/bin/env python3
"""What NVIDIA's assembler makes of the kernels, on a machine without a GPU: registers, spills, how many groups of 32 invocations a
processor holds, and the instructions of each loop.

NVIDIA's driver has a compiler of its own, which needs a card. Its assembler, which gives out registers and orders instructions,
comes in a Python package: a kernel goes through naga to HLSL, through Slang to CUDA, and is assembled. How buffers and parameters
are bound differs from the driver's way; what stands between loads and stores hardly can. HLSL knows no cooperative matrices: they
become structures on that way, and `ldmatrix`, `mma` and stores take the place of what is done with them, as a driver is believed to do it.

Usage: scripts/sass.py [--sm N] [--keep FOLDER] < LINES
  a line names a pipeline as examples/05_compiled prints it; constants that it leaves out keep their defaults:
    matmul_tiled TRANS_A=0 TRANS_B=1 none f32
    layernorm AFFINE=1 ROW_LANES=64 HELD=1 SUBGROUP=32 none f16_packed
  --sm 90 is an H200; --keep leaves the texts of every step in a folder. Needs target/release/mmae. The first call downloads 250 MB
  into drivers/sass.
"""
import argparse
import ctypes
import glob
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOME = os.path.join(ROOT, "drivers", "sass")
MMAE = os.path.join(ROOT, "target", "release", "mmae")
PACKAGES = ["slangpy==0.43.1", "nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-nvcc-cu12==12.9.86",
            "nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-nvdisasm==13.5.37"]
# A processor of sm_90: registers, groups of 32 invocations, workgroups, bytes of workgroup memory.
REGISTERS, SUBGROUPS, WORKGROUPS, BYTES = 65536, 64, 32, 227 << 10


def setup():
    """The folder of the packages, downloaded by the first call."""
    if not os.path.exists(os.path.join(HOME, "done")):
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        subprocess.run([os.path.join(HOME, "bin", "pip"), "install", "--quiet", *PACKAGES], check=True)
        open(os.path.join(HOME, "done"), "w").close()
    return glob.glob(os.path.join(HOME, "lib", "python3*", "site-packages"))[0]


# What a lane holds of matrices of 16 x 16, and functions in whose place the instructions of MATRIX_BODIES are put.
MATRICES = """
struct MatrixA { of_a: vec4<u32> }
struct MatrixB { of_b: vec4<u32> }
struct MatrixC { left: vec4<f32>, right: vec4<f32> }
fn matrix_load_a(at: u32, pitch: u32) -> MatrixA { return MatrixA(vec4(at, pitch, at, pitch)); }
fn matrix_load_a_t(at: u32, pitch: u32) -> MatrixA { return MatrixA(vec4(at, pitch, at, at)); }
fn matrix_load_b(at: u32, pitch: u32) -> MatrixB { return MatrixB(vec4(at, pitch, at, pitch)); }
fn matrix_load_b_t(at: u32, pitch: u32) -> MatrixB { return MatrixB(vec4(at, pitch, at, at)); }
fn matrix_store_c_t(c: MatrixC, at: u32, pitch: u32) { handed[at + pitch] = c.left + c.right; }
fn matrix_multiply_add(a: MatrixA, b: MatrixB, c: MatrixC) -> MatrixC { return MatrixC(c.left + vec4<f32>(a.of_a), c.right + vec4<f32>(b.of_b)); }
"""
# Rows of 8 x 8 halves lie with eight lanes each; `row` and `half` say whose address a lane gives. The arrays have cells of 8 and 16 bytes.
LOAD = """
    unsigned lane = threadIdx.x & 31, row = {row}, half = {half};
    unsigned address = (unsigned)__cvta_generic_to_shared(&{tiles}) + 8 * ($0 + row * $1) + 16 * half;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%0, %1, %2, %3}}, [%4];"
        : "=r"(m.{side}.x), "=r"(m.{side}.y), "=r"(m.{side}.z), "=r"(m.{side}.w) : "r"(address) : "memory");
    return m;"""
ALONG, ACROSS = {"row": "lane % 16", "half": "lane / 16"}, {"row": "lane % 8 + lane / 16 * 8", "half": "lane / 8 % 2"}
MULTIPLY_ADD = """
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
        : "+f"(m.{half}.x), "+f"(m.{half}.y), "+f"(m.{half}.z), "+f"(m.{half}.w)
        : "r"($0.of_a_0.x), "r"($0.of_a_0.y), "r"($0.of_a_0.z), "r"($0.of_a_0.w), "r"($1.of_b_0.{k0}), "r"($1.of_b_0.{k1}));"""


def matrix_bodies(tiles, handed):
    """The bodies of the functions of MATRICES in CUDA; $0, $1, $2 are their arguments, `m` what they return."""
    store = "".join(f"\n    *(float2*)(to + {at}) = make_float2($0.{half}.{x}, $0.{half}.{y});"
                    for at, half, x, y in (("0", "left_0", "x", "y"), ("4 * 8 * $2", "left_0", "z", "w"), ("8", "right_0", "x", "y"), ("4 * 8 * $2 + 8", "right_0", "z", "w")))
    return {
        "matrix_load_a_t": LOAD.format(tiles=tiles, side="of_a_0", trans="", **ALONG), "matrix_load_a": LOAD.format(tiles=tiles, side="of_a_0", trans=".trans", **ACROSS),
        "matrix_load_b": LOAD.format(tiles=tiles, side="of_b_0", trans="", **ACROSS), "matrix_load_b_t": LOAD.format(tiles=tiles, side="of_b_0", trans=".trans", **ALONG),
        "matrix_multiply_add": "\n    m = $2;" + MULTIPLY_ADD.format(half="left_0", k0="x", k1="y") + MULTIPLY_ADD.format(half="right_0", k0="z", k1="w") + "\n    return m;",
        "matrix_store_c_t": f"\n    unsigned lane = threadIdx.x & 31;\n    float *to = (float*)&{handed} + 4 * ($1 + lane / 4 * $2) + 2 * (lane % 4);" + store,
    }


def without_matrices(text):
    """A kernel's text with the structures and functions of MATRICES."""
    text = text.replace("enable wgpu_cooperative_matrix;", "")
    text = re.sub(r"alias Matrix[AB] = .*\n", "", text)
    text = re.sub(r"alias MatrixC = .*\n", MATRICES, text)
    text = re.sub(r"coopLoad(T?)<Matrix([AB])>\(&tiles\[(.*?)\], ", lambda m: f"matrix_load_{m[2].lower()}{'_t' if m[1] else ''}({m[3]}, ", text)
    text = re.sub(r"coopStoreT\((\w+), &handed\[(.*?)\], ", r"matrix_store_c_t(\1, \2, ", text)
    text = text.replace("coopMultiplyAdd(", "matrix_multiply_add(")
    # Slang has no subgroup's number for CUDA.
    text = re.sub(r",\s*@builtin\(subgroup_(id|invocation_id)\) \w+: u32", "", text)
    text = re.sub(r"(@compute[^{]*\{)", r"\1\n    let group = lid / 32u; let lane = lid % 32u;", text)
    if "coop" in re.sub("//.*", "", text):
        raise ValueError(f"cannot take this use of a matrix: {re.search('.*coop[A-Z_].*', text)[0].strip()}")
    return text


def with_matrices(text):
    """The same in CUDA with instructions in their place."""
    if "matrix_multiply_add_0" not in text:
        return text
    array = lambda name: re.search(rf"__shared__ .*?(\w*{name}_\d+)", text)[1]
    for name, body in matrix_bodies(array("tiles"), array("handed")).items():
        found = re.search(rf"__device__ (\w+) {name}_0\((.*?)\)\n\{{\n.*?\n\}}\n", text, re.S)
        if not found:
            continue
        for i, argument in enumerate(found[2].split(",")):
            name_of = argument.split()[-1]
            body = body.replace(f"${i}", f"(*{name_of})" if "*" in argument else name_of)
        value = "" if found[1] == "void" else f"\n    {found[1]} m;"
        text = text.replace(found[0], f"__device__ __forceinline__ {found[1]} {name}_0({found[2]})\n{{{value}{body}\n}}\n")
    return text


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def hlsl(line, keep):
    """A pipeline's HLSL, as DirectX would be given it."""
    if len(line.split()) < 3:
        raise ValueError("a line is KERNEL [NAME=VALUE ...] EPILOGUE STORAGE")
    kernel, *constants, epilogue, storage = line.split()
    chosen = ["--print", kernel, "--storage", storage]
    chosen += ["--lanes", "known" if any(c.startswith("SUBGROUP=") for c in constants) else "any"]
    chosen += ["--epilogue", epilogue] if epilogue != "none" else []
    wgsl = run(MMAE, "kernels", *chosen)
    if "enable wgpu_cooperative_matrix;" in wgsl:
        path = os.path.join(keep, "without_matrices.wgsl")
        with open(path, "w") as file:
            file.write(without_matrices(wgsl))
        chosen = ["--wgsl", path]
    text = run(MMAE, "kernels", *chosen, "--to", "hlsl", *(word for c in constants for word in ("--set", c)))
    # Checks that SPIR-V goes without; whole cells in one access, which Slang does only when it is told that they are aligned.
    text = re.sub(r"\(rhs == 0u? \? 1u? : rhs\)", "rhs", text)
    text = re.sub(r"\.Load<half4>\((.*)\);", r".LoadHalves(\1);", text)
    text = re.sub(r"(\w+)\.LoadHalves\((.*)\);", r"bit_cast<half4>(\1.LoadAligned<uint2>(\2));", text)
    text = re.sub(r"\.Store\((.*\*8), (.*)\);", r".StoreAligned(\1, bit_cast<uint2>(half4(\2)));", text)
    return re.sub(r"\.Load([24])\(", r".LoadAligned<uint\1>(", re.sub(r"\.Store[24]\(", ".StoreAligned(", text))


def slang(packages, text):
    """HLSL as CUDA."""
    lib = ctypes.CDLL(glob.glob(os.path.join(packages, "slangpy", "libslang-compiler.so*"))[0])
    lib.spCreateSession.restype = lib.spCreateCompileRequest.restype = ctypes.c_void_p
    lib.spGetDiagnosticOutput.restype = lib.spGetEntryPointSource.restype = ctypes.c_char_p
    request = ctypes.c_void_p(lib.spCreateCompileRequest(ctypes.c_void_p(lib.spCreateSession(None))))
    lib.spAddCodeGenTarget(request, 17)  # SLANG_CUDA_SOURCE
    unit = lib.spAddTranslationUnit(request, 2, b"kernel")  # SLANG_SOURCE_LANGUAGE_HLSL
    lib.spAddTranslationUnitSourceString(request, unit, b"kernel.hlsl", text.encode())
    entry = lib.spAddEntryPoint(request, unit, b"main", 6)  # SLANG_STAGE_COMPUTE
    if lib.spCompile(request) < 0:
        raise RuntimeError(lib.spGetDiagnosticOutput(request).decode())
    return lib.spGetEntryPointSource(request, entry).decode()


def cuda(text, invocations):
    """The same with parameters where a driver has them, and without what Slang adds."""
    text = re.sub(r"__ballot_sync\([^;]*?\);", "0xffffffffU;", text)  # who takes part in an operation of a subgroup: everybody
    for field, axis in (("first_vertex", "x"), ("first_instance", "y"), ("other", "z")):
        text = text.replace(f"__ldg(&globalParams_0->_NagaConstants_0->{field}_0)", f"(int)gridDim.{axis}")
    if found := re.search(r"(\w+)\s*\*\s*p_0;", text):
        text = re.sub(r"__ldg\(&globalParams_0->p_0->(\w+)\)", r"params.\1", text)
        text = text.replace("globalParams_0->p_0->", "params.")
        end = re.search(r"struct " + found[1] + r"\s*\{[^}]*\};", text).end()
        text = f'{text[:end]}\nextern "C" __constant__ {found[1]} params;\n{text[end:]}'
    # Halves that are only moved stay in pairs.
    text = re.sub(r"make___half4 \(\(slang_bit_cast<__half>\(ushort\((\w+)\.x & .*?\(\1\.y >> 16U\) & 65535U\)\)\)\)", r"(*(__half4*)&\1)", text)
    text = text.replace("struct __align__(4) __half4", "struct __align__(8) __half4")
    text = text.replace("memcpy(&data, ((const char*)this->data) + index, sizeof(T));", "data = *(const T*)(((const char*)this->data) + index);")
    text = text.replace("memcpy((char*)data + index, &value, sizeof(T));", "*(T*)((char*)data + index) = value;")
    return re.sub(r'extern "C" __global__ void (__launch_bounds__\(\d+\) )?', f'extern "C" __global__ void __launch_bounds__({invocations}) ', text)


def ptx(packages, text, sm):
    lib = ctypes.CDLL(glob.glob(os.path.join(packages, "nvidia", "cuda_nvrtc", "lib", "libnvrtc.so.*"))[0])
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    # A driver takes the hardware's own exponentials and divisions, as Vulkan allows.
    options = [f"--gpu-architecture=compute_{sm}", "--std=c++17", "-default-device", "--use_fast_math", "-DSLANG_CUDA_ENABLE_HALF",
               "-I" + os.path.join(packages, "nvidia", "cuda_runtime", "include")]
    failed = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options]))
    get = "nvrtcGetProgramLog" if failed else "nvrtcGetPTX"
    getattr(lib, get + "Size")(program, ctypes.byref(size))
    out = ctypes.create_string_buffer(size.value)
    getattr(lib, get)(program, out)
    if failed:
        raise RuntimeError("\n".join(l for l in out.value.decode().splitlines() if "error" in l))
    return out.value.decode()


def loops(sass):
    """Each loop: how many instructions it has, inner loops counted once, and of which kinds."""
    instructions, labels, found = [], {}, []
    for line in sass.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif one := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);", line):
            instructions.append(one[1])
            to = re.search(r"\.L_\w+", one[2]) if one[1].startswith("BRA") else None
            start = labels.get(to[0]) if to else None
            if start is not None and start < len(instructions) - 1:
                found.append((start, len(instructions)))
    kind = lambda name: name if name.startswith(("LD", "ST")) else name.split(".")[0]
    return [(end - start, Counter(map(kind, instructions[start:end])).most_common(8)) for start, end in found]


def show(packages, line, sm, keep):
    text = hlsl(line, keep)
    sizes = re.search(r"\[numthreads\((\d+), (\d+), (\d+)\)\]", text)
    invocations = int(sizes[1]) * int(sizes[2]) * int(sizes[3])
    stem = os.path.join(keep, re.sub(r"[^\w=]+", "_", line.strip()))
    made = text
    for ending, step in ((".hlsl", lambda text: text), (".cu", lambda text: with_matrices(cuda(slang(packages, text), invocations))),
                         (".ptx", lambda text: ptx(packages, text, sm))):
        made = step(made)
        with open(stem + ending, "w") as file:
            file.write(made)
    assembler = os.path.join(packages, "nvidia", "cuda_nvcc", "bin", "ptxas")
    told = subprocess.run([assembler, "-v", f"-arch=sm_{sm}", stem + ".ptx", "-o", stem + ".cubin"], check=True, capture_output=True, text=True).stderr
    disassembler = os.path.join(packages, "nvidia", "cu13", "bin", "nvdisasm")
    sass = subprocess.run([disassembler, "-c", stem + ".cubin"], check=True, capture_output=True, text=True).stdout
    with open(stem + ".sass", "w") as file:
        file.write(sass)
    registers = int(re.search(r"Used (\d+) registers", told)[1])
    spilled = int(re.search(r"(\d+) bytes spill stores", told)[1])
    shared = int((re.search(r"(\d+) bytes smem", told) or [0, 0])[1])
    groups = (invocations + 31) // 32
    held = min(REGISTERS // (-(-registers // 8) * 256 * groups), SUBGROUPS // groups, WORKGROUPS, BYTES // (shared + 1024))
    print(f"{line.strip()}\n  {registers} registers, {spilled} bytes spilled, {shared} bytes of workgroup memory, {held * groups} groups of 32 on a processor")
    for count, kinds in loops(sass):
        print(f"  loop of {count}: " + ", ".join(f"{name} {n}" for name, n in kinds))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sm", default="90")
    options.add_argument("--keep")
    given = options.parse_args()
    if not os.path.exists(MMAE):
        sys.exit("sass.py: target/release/mmae is missing: cargo build --release")
    packages = setup()
    with tempfile.TemporaryDirectory() as folder:
        keep = given.keep or folder
        os.makedirs(keep, exist_ok=True)
        for line in filter(str.strip, sys.stdin):
            try:
                show(packages, line, given.sm, keep)
            except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
                sys.exit(f"sass.py: {line.strip()}: {getattr(error, 'stderr', None) or error}")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Unpacks two more software Vulkan drivers into ./drivers, to run the kernels on something else than the system's driver.
# Nothing is installed and root is not needed: packages of the Debian mirror that apt already uses are unpacked in place.
#
#   drivers/lvp26/run PROGRAM ...         a newer lavapipe with its own C library (Mesa 26, cooperative matrix)
#   drivers/swiftshader/run PROGRAM ...   SwiftShader (no native f16, subgroups of 4)
#   drivers/validation/run PROGRAM ...    the newer lavapipe under Khronos' validation layer, with --validation only: its
#                                         messages go to drivers/validation/log, one file for each process
#   drivers/radv/run PROGRAM ...          Mesa's driver for AMD as a compiler for a card that is not there (RADV_FORCE_FAMILY, by default
#                                         navi31, RDNA 3), with --compilers only: it makes pipelines and runs nothing
#
# Usage: scripts/drivers.sh [--validation] [--compilers] [FOLDER]
#   63 MB and 31 MB are downloaded, 310 MB unpacked; the layer adds 6 MB and 28 MB, the compiler 60 and 240. A second call does nothing.
set -euo pipefail

validation=false compilers=false
while true; do
    case ${1:-} in
        --validation) validation=true ;;
        --compilers) compilers=true ;;
        -*) echo "drivers.sh: $1 is not known: --validation, --compilers" >&2; exit 2 ;;
        *) break ;;
    esac
    shift
done

for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "drivers.sh: $tool is missing; this script needs Debian on x86-64" >&2; exit 1; }
done
[ "$(uname -m)" = x86_64 ] || { echo "drivers.sh: this script knows x86-64 only, not $(uname -m)" >&2; exit 1; }

top=${1:-"$(cd "$(dirname "$0")/.." && pwd)/drivers"}
mkdir -p "$top"
top=$(cd "$top" && pwd)
work=$(mktemp -d "$top/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A private apt state, so that the machine's own package lists and locks stay as they are.
newer_apt() {
    local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$' || true)
    [ -n "$mirror" ] || { echo "drivers.sh: apt has no Debian mirror configured" >&2; exit 1; }
    mkdir -p "$work"/lists/partial "$work"/cache/archives/partial
    : >"$work/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$key" "$mirror" trixie "$key" "$mirror" trixie-backports >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::State::Lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
CONF
}

# Unpacks the downloaded packages into $top/NAME and writes its run script: programs start through the loader of the C library
# that the driver was built for. Usage: unpack NAME DRIVER [VARIABLE=VALUE]
unpack() {
    local root=$top/$1/root package loader icd
    rm -rf "${top:?}/$1"
    mkdir -p "$root"
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$root"; done
    loader=$(find "$root" -name ld-linux-x86-64.so.2 | head -n 1)
    icd=$(find "$root/usr/share/vulkan/icd.d" -name "$2_icd*.json" | head -n 1)
    [ -n "$loader" ] && [ -n "$icd" ] || { echo "drivers.sh: the packages hold no loader or no driver named $2" >&2; exit 1; }
    cat >"$work/run" <<RUN
#!/bin/sh
export VK_DRIVER_FILES='$icd'${3:+ $3}
exec '$loader' --library-path '$root/usr/lib/x86_64-linux-gnu' "\$@"
RUN
    chmod +x "$work/run"
    mv "$work/run" "$top/$1/run"
}

# lavapipe: unpacked with the C library that it was built for, and started through that library's loader.
if [ ! -x "$top/lvp26/run" ]; then
    echo "drivers.sh: unpacking lavapipe from trixie-backports" >&2
    newer_apt
    APT_CONFIG=$work/apt.conf apt-get -qq update
    APT_CONFIG=$work/apt.conf apt-get -qq -y -d -t trixie-backports install mesa-vulkan-drivers libvulkan1
    unpack lvp26 lvp
fi

# SwiftShader: one library of the chromium package, which runs with the system's loader.
if [ ! -x "$top/swiftshader/run" ]; then
    echo "drivers.sh: unpacking SwiftShader from chromium-common" >&2
    rm -rf "$top/swiftshader"
    mkdir -p "$top/swiftshader" "$work/chromium"
    (
        cd "$work/chromium"
        apt-get -qq -o APT::Sandbox::User= download chromium-common
        dpkg -x chromium-common_*.deb .
        cp usr/lib/chromium/libvk_swiftshader.so usr/lib/chromium/vk_swiftshader_icd.json "$top/swiftshader/"
    )
    cat >"$work/run" <<RUN
#!/bin/sh
export VK_DRIVER_FILES='$top/swiftshader/vk_swiftshader_icd.json'
exec "\$@"
RUN
    chmod +x "$work/run"
    mv "$work/run" "$top/swiftshader/run"
fi

# The validation layer, started with that lavapipe's C library. Messages go to files of the layer's own: whether the program
# installs a callback for them makes no difference.
if $validation && [ ! -x "$top/validation/run" ]; then
    echo "drivers.sh: unpacking the validation layer from trixie" >&2
    rm -rf "$top/validation"
    mkdir -p "$top/validation/log" "$work/layer"
    newer_apt
    APT_CONFIG=$work/apt.conf apt-get -qq update
    (cd "$work/layer" && APT_CONFIG=$work/apt.conf apt-get -qq download vulkan-validationlayers && dpkg -x ./*.deb .)
    library=$(find "$work/layer/usr/lib" -name libVkLayer_khronos_validation.so | head -n 1)
    [ -n "$library" ] || { echo "drivers.sh: the package holds no validation layer" >&2; exit 1; }
    cp "$library" "$top/validation/"
    sed "s#\"library_path\": \"#&$top/validation/#" \
        "$work/layer/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" >"$top/validation/layer.json"
    cat >"$work/run" <<RUN
#!/bin/sh
export VK_ADD_LAYER_PATH='$top/validation' VK_LOADER_LAYERS_ENABLE='*validation*' VK_LAYER_VALIDATE_SYNC=1
export VK_LAYER_REPORT_FLAGS=error,warn VK_LAYER_DEBUG_ACTION=VK_DBG_LAYER_ACTION_LOG_MSG
export VK_LAYER_LOG_FILENAME='$top/validation/log/'\$\$.txt
exec '$top/lvp26/run' "\$@"
RUN
    chmod +x "$work/run"
    mv "$work/run" "$top/validation/run"
fi
# RADV of trixie: later versions compile for cards that are there only.
if $compilers && [ ! -x "$top/radv/run" ]; then
    echo "drivers.sh: unpacking RADV from trixie" >&2
    rm -rf "$work/cache"
    newer_apt
    sed -i /backports/d "$work/sources.list"
    APT_CONFIG=$work/apt.conf apt-get -qq update
    APT_CONFIG=$work/apt.conf apt-get -qq -y -d install mesa-vulkan-drivers libvulkan1
    unpack radv radeon 'RADV_FORCE_FAMILY="${RADV_FORCE_FAMILY:-navi31}"'
fi
rm -rf "$work"
du -sh "$top"/*/ >&2

#!/usr/bin/env bash
# What demo.sh and test.sh need: a Rust toolchain, and a Vulkan adapter on Linux. Installs a software driver through the
# system's package manager when, and only when, no adapter is found. macOS and Windows bring their own (Metal, DirectX 12).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
stop() { say "$*"; exit 1; }

command -v cargo >/dev/null ||
    stop "cargo was not found; install Rust from https://rustup.rs, open a new shell and run this again"

[ "$(uname -s)" = Linux ] || exit 0

command -v cc >/dev/null || stop "no C linker (cc) was found, which Rust needs; install gcc or clang and run this again"

# The loader, and the description of at least one driver.
has_vulkan_files() {
    local folder
    if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
        compgen -G '/usr/lib*/libvulkan.so.1' >/dev/null || compgen -G '/usr/lib/*/libvulkan.so.1' >/dev/null || return 1
    fi
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || return 0
    for folder in /usr/share /usr/local/share /etc "${XDG_DATA_HOME:-$HOME/.local/share}"; do
        compgen -G "$folder/vulkan/icd.d/*.json" >/dev/null && return 0
    done
    return 1
}

# A driver may be installed without its device being there: the program itself knows.
has_adapter() {
    local report
    report=$(cargo run --release --quiet -- info --json --quiet) || stop "the build failed, or mmae info did"
    ! grep -q '"adapters": \[\]' <<<"$report"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        say "running with sudo: $*"
        sudo "$@"
    else
        stop "root is needed to run: $*"
    fi
}

install_driver() {
    say "no Vulkan adapter was found: installing Mesa's software driver (lavapipe)"
    if command -v apt-get >/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers libvulkan1 >&2
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q mesa-vulkan-drivers vulkan-loader >&2
    elif command -v pacman >/dev/null; then
        as_root pacman -Sy --noconfirm --needed vulkan-swrast vulkan-icd-loader >&2
    elif command -v zypper >/dev/null; then
        as_root zypper --non-interactive install libvulkan_lvp libvulkan1 >&2
    elif command -v apk >/dev/null; then
        as_root apk add mesa-vulkan-swrast vulkan-loader >&2
    else
        stop "no package manager that this script knows; install a Vulkan driver, or use --device cpu (slow)"
    fi
}

if ! has_vulkan_files; then
    install_driver
fi
say "building (some minutes the first time)"
cargo build --release >&2
if ! has_adapter; then
    install_driver
    has_adapter || stop "still no Vulkan adapter; see what 'vulkaninfo' says, or use --device cpu (slow)"
fi

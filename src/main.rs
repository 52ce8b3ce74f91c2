//! The `mmae` command; everything is in the library's `cli` module.

fn main() -> std::process::ExitCode {
    mmae::cli::main()
}

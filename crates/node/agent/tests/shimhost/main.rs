//! A program that does nothing but become a shim, for the tests of the agent.

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some(cloudeck_runtime::SHIM_WORD) {
        return std::process::ExitCode::from(cloudeck_runtime::shim_main() as u8);
    }
    std::process::ExitCode::from(2)
}

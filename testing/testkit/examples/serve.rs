//! A server to try things on by hand: prints the path of a kubeconfig and runs until interrupted.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let test = cloudeck_testkit::TestServer::start().await?;
    println!("{}", test.kubeconfig_path()?.display());
    tokio::signal::ctrl_c().await?;
    test.stop().await;
    Ok(())
}

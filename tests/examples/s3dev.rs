use harness::s3::*;
#[tokio::main]
async fn main() {
    let server = Server::start(Options { port: 9123, ..Options::default() }).await.unwrap();
    server.create_bucket("plain", BucketOptions::default());
    server.create_bucket("versioned", BucketOptions { versioned: true, ..Default::default() });
    let mut events = server.subscribe("plain", Filter::of("all", "s3:*"));
    tokio::spawn(async move {
        while let Some(e) = events.recv().await {
            eprintln!("{e}");
        }
    });
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        for r in server.take_requests() {
            if std::env::args().len() > 1 {
                eprintln!("{r:?}");
            }
        }
    }
}

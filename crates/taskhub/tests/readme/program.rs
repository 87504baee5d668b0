use taskhub::{ActivityContext, Hub, OrchestrationContext, Result};

async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
    Ok(format!("Hello {city}!"))
}

async fn hello_sequence(ctx: OrchestrationContext, _: ()) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call_activity("E1_SayHello", city).await?);
    }
    Ok(greetings)
}

#[tokio::main]
async fn main() -> Result<()> {
    let hub = Hub::builder("SampleHub")
        .orchestrator("E1_HelloSequence", hello_sequence)
        .activity("E1_SayHello", say_hello)
        .open("sample-hub") // the folder that holds the store
        .await?;
    let hello = hub.client().start("E1_HelloSequence", ()).await?;
    println!("{:?}", hello.wait::<Vec<String>>().await?);
    Ok(())
}

//! Orders come by HTTP, and their rows and their events are there together. The service ends when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use axum::routing::{get, put};
use courant::engine::{Engine, EngineConfig};
use courant::prelude::*;
use courant::{BoxError, Service, Transactions, open_engine, until_signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tracing::error;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
}

async fn pack(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("update orders set state = 'packed' where name = ?")
        .bind(&placed.order)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// The row and the event, or neither. Gives back whether the order is a new one.
async fn place(desk: &Transactions<Sqlite>, order: &str) -> Result<bool, BoxError> {
    let mut tx = desk.begin().await?;
    let row = sqlx::query("insert into orders (name, state) values (?, 'placed') on conflict do nothing")
        .bind(order)
        .execute(&mut *tx)
        .await?;
    if row.rows_affected() == 0 {
        return Ok(false);
    }
    tx.publish(&OrderPlaced { order: order.to_owned() })?;
    tx.commit().await?;
    Ok(true)
}

/// Who does not hear the answer sends the request again, and places nothing by that.
async fn put_order(
    extract::State(desk): extract::State<Transactions<Sqlite>>,
    Path(order): Path<String>,
) -> StatusCode {
    match place(&desk, &order).await {
        Ok(true) => StatusCode::CREATED,
        Ok(false) => StatusCode::OK,
        Err(said) => {
            error!(order, %said, "an order was not placed");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Nothing answers before the service has started, or when it is about to end.
async fn ready() {}

/// Runs until it is told to end: first there are no more requests, and then no more events.
async fn serve(
    service: Service<Sqlite>,
    listener: TcpListener,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), BoxError> {
    let desk = Router::new()
        .route("/readyz", get(ready))
        .route("/orders/{order}", put(put_order))
        .with_state(service.transactions());
    let requests = axum::serve(listener, desk).with_graceful_shutdown(end);
    service
        .run_until(async move {
            if let Err(said) = requests.await {
                error!(%said, "no more requests are taken");
            }
        })
        .await?;
    Ok(())
}

/// As `serve`, until SIGTERM, as containers and systemd say it, or Ctrl-C; or until the test is done with it.
async fn run(
    service: Service<Sqlite>,
    listener: TcpListener,
    ended: oneshot::Receiver<()>,
) -> Result<(), BoxError> {
    let serving = until_signal(|told| {
        let end = async move {
            tokio::select! {
                () = told => {}
                _ = ended => {}
            }
        };
        serve(service, listener, end)
    });
    serving.await?
}

async fn shop(log: &Arc<dyn Engine>, store: &Sqlite) -> Result<Service<Sqlite>, BoxError> {
    let app = App::new("shop").engine(log.clone()).store(store.clone());
    let service = app.subscribe(Subscription::named("packing").on(pack)).build().await?;
    let mut tx = service.transaction().await?;
    sqlx::query("create table if not exists orders (name text primary key, state text not null)")
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(service)
}

/// The first line of the answer to a request.
async fn answer(address: SocketAddr, request: &str) -> Result<String, BoxError> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("{request} HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_placed_by_http_is_packed() -> Result<(), BoxError> {
    let log = open_engine(&"memory:".parse()?, EngineConfig::system()).await?;
    let store = Sqlite::connect("sqlite::memory:").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (end, ended) = oneshot::channel::<()>();
    let serving = run(shop(&log, &store).await?, listener, ended);
    let asking = async move {
        assert_eq!(answer(address, "GET /readyz").await?, "HTTP/1.1 200 OK");
        assert_eq!(answer(address, "PUT /orders/tea").await?, "HTTP/1.1 201 Created");
        assert_eq!(answer(address, "PUT /orders/tea").await?, "HTTP/1.1 200 OK");
        drop(end);
        Ok::<(), BoxError>(())
    };
    tokio::try_join!(serving, asking)?;

    // What the first instance has not come to, the next one does.
    shop(&log, &store).await?.run_until_settled().await?;
    let mut reader = store.read().await?;
    let orders: Vec<(String, String)> =
        sqlx::query_as("select name, state from orders").fetch_all(&mut *reader).await?;
    assert_eq!(orders, [("tea".to_owned(), "packed".to_owned())]);
    Ok(())
}

//! The two ways by which the killed program talks to its hub: calls in the process, or HTTP over real
//! connections to its own server. What is acknowledged is the same promise on both.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use taskhub::{Client, Hub, HubError, InstanceId};
use taskhub_server::{Config, Server};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Result;
use crate::workload::{EVENT, HUB, JOB, Job};

/// Calls that steer or wait, at once; starts are limited by their wave. Together they stay below the
/// number of files that a process may have open by default.
const STEERING_MAX: usize = 150;

/// How the hub is talked to.
#[derive(Clone, Debug)]
pub enum Door {
    Direct(Client),
    /// Over HTTP.
    Http(Arc<Line>),
}

/// The word for what went wrong.
type Trouble = String;

impl Door {
    /// Starts a job; when this returns it is acknowledged.
    ///
    /// # Errors
    ///
    /// The word for why not.
    pub async fn start(&self, job: Job) -> Result<InstanceId, Trouble> {
        match self {
            Self::Direct(client) => match job.start(client).await {
                Ok(started) => Ok(started.id().clone()),
                Err(error) => Err(word(&error)),
            },
            Self::Http(line) => line.start(job).await,
        }
    }

    /// Waits until the job runs, raises its event, tells that it is raised, and waits for the job's end. Answers
    /// its status.
    ///
    /// # Errors
    ///
    /// The word for why not.
    pub async fn follow(&self, instance: &InstanceId, job: Job, raised: impl FnOnce()) -> Result<String, Trouble> {
        match self {
            Self::Direct(client) => {
                let seen = async {
                    client.wait_for_start(instance).await?;
                    let key = job.event_key();
                    client.raise_event(instance, EVENT, job.number).key(&key).await?;
                    raised();
                    client.wait_for_end(instance).await
                };
                let info = seen.await.map_err(|error| word(&error))?;
                Ok(info.status.to_string())
            }
            Self::Http(line) => line.follow(instance, job, raised).await,
        }
    }
}

fn word(error: &HubError) -> Trouble {
    error.code().to_owned()
}

/// Connections to a server, used again and again.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    steering: Semaphore,
    /// What drives the connections; they end with the line.
    driven: Mutex<JoinSet<()>>,
}

impl Line {
    /// Serves a hub on a free port of this machine, in a task of the set, and opens a line to it.
    ///
    /// # Errors
    ///
    /// If the server does not come up.
    pub async fn to_own_server(hub: &Hub, tasks: &mut JoinSet<()>) -> Result<Self> {
        let config = Config {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        let listening = Server::new(Arc::clone(hub.engine()), config).bind().await?;
        let address = listening.address();
        tasks.spawn(listening.serve_until(std::future::pending()));
        Ok(Self {
            address,
            idle: Mutex::default(),
            steering: Semaphore::new(STEERING_MAX),
            driven: Mutex::default(),
        })
    }

    async fn start(&self, job: Job) -> Result<InstanceId, Trouble> {
        let mut path = format!("/durabletask/orchestrators/{JOB}");
        let mut key = None;
        if job.has_key() {
            key = Some(format!("start-{}", job.number));
        } else {
            path = format!("{path}/job-{}", job.number);
        }
        let (status, answer) = self.call(Method::POST, &path, key.as_deref(), &json!(job)).await?;
        match (status, answer.get("id").and_then(Value::as_str)) {
            (StatusCode::ACCEPTED, Some(id)) => InstanceId::new(id).map_err(|refused| refused.code().to_owned()),
            _ => Err(format!("status-{}", status.as_u16())),
        }
    }

    async fn follow(&self, instance: &InstanceId, job: Job, raised: impl FnOnce()) -> Result<String, Trouble> {
        let base = format!("/api/v1/hubs/{HUB}/instances/{instance}");
        self.wait(&format!("{base}/wait?for=started")).await?;
        let event = json!({ "name": EVENT, "input": job.number, "idempotencyKey": job.event_key() });
        self.steer(Method::POST, &format!("{base}/raise"), &event).await?;
        raised();
        let ended = self.wait(&format!("{base}/wait?for=ended")).await?;
        let status = ended.pointer("/instance/runtimeStatus").and_then(Value::as_str);
        status.map(str::to_owned).ok_or_else(|| "no-status".to_owned())
    }

    /// Asks until what is waited for has happened; one answer may come before that.
    async fn wait(&self, path: &str) -> Result<Value, Trouble> {
        loop {
            let answer = self.steer(Method::GET, path, &Value::Null).await?;
            if answer.get("isMet") == Some(&Value::Bool(true)) {
                return Ok(answer);
            }
        }
    }

    async fn steer(&self, method: Method, path: &str, body: &Value) -> Result<Value, Trouble> {
        let _turn = self.steering.acquire().await;
        let (status, answer) = self.call(method, path, None, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let code = answer.pointer("/error/code").and_then(Value::as_str);
        Err(code.unwrap_or("no-code").to_owned())
    }

    /// One exchange; an answer without a body is `null`.
    async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<(StatusCode, Value), Trouble> {
        let trouble = |error: &dyn std::fmt::Display| format!("no-answer({error})").replace(' ', "-");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request.body(Full::new(body.into())).map_err(|error| trouble(&error))?;
        let mut sender = self.connection().await.map_err(|error| trouble(&error))?;
        let response = sender.send_request(request).await.map_err(|error| trouble(&error))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| trouble(&error))?
            .to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        let answer = if body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&body)
        };
        Ok((status, answer.map_err(|error| trouble(&error))?))
    }

    /// A connection that is idle and still open, or a new one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driven = self.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.spawn(async {
            let _ended = connection.await;
        });
        Ok(sender)
    }
}

//! The calls by their names: how each is answered by the controller's leader.

use super::{Calls, Failure};
use chronik_admin as api;
use prost::Message;
use std::future::Future;
use tonic::Status;

/// A call: its request.
pub(super) trait Call: Message + Default + Clone + 'static {
    /// What it is answered with.
    type Answer: Message + Default;
    /// Its name in chronik.admin.v1.
    const NAME: &'static str;
    /// Answers it, if this broker leads.
    fn answer(self, calls: &Calls) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

macro_rules! calls {
    ($($name:literal: $request:ident => $answer:ident by $method:ident;)*) => {
        $(impl Call for api::$request {
            type Answer = api::$answer;
            const NAME: &'static str = $name;

            async fn answer(self, calls: &Calls) -> Result<Self::Answer, Failure> {
                calls.$method(self).await
            }
        })*

        /// Answers a call that came as bytes.
        pub(super) async fn dispatch(calls: &Calls, name: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
            match name {
                $($name => {
                    let request = api::$request::decode(body)
                        .map_err(|_| Status::invalid_argument("the call's body is not understood"))?;
                    Ok(request.answer(calls).await?.encode_to_vec())
                })*
                super::lags::HERE => calls.lags_here(body).await,
                super::stop::HERE => calls.ordered(body).await,
                other => Err(Status::unimplemented(format!("there is no call '{other}' here")).into()),
            }
        }
    };
}

calls! {
    "Facts": FactsRequest => FactsResponse by facts;
    "RequestStop": RequestStopRequest => RequestStopResponse by request_stop;
    "Recovered": RecoveredRequest => RecoveredResponse by recovered;
    "HandOver": HandOverRequest => HandOverResponse by hand_over;
    "Stop": StopRequest => StopResponse by stop;
    "Cordon": CordonRequest => CordonResponse by cordon;
    "Uncordon": UncordonRequest => UncordonResponse by uncordon;
    "Drain": DrainRequest => DrainResponse by drain;
    "Rebalance": RebalanceRequest => RebalanceResponse by rebalance;
    "RemoveBroker": RemoveBrokerRequest => RemoveBrokerResponse by remove_broker;
    "ChangeVoters": ChangeVotersRequest => ChangeVotersResponse by change_voters;
}

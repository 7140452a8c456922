//! OffsetDelete: forgets committed offsets of topics that the group is not subscribed to.

use super::groups::{answer_of, code, group_id};
use super::{Handlers, Reply, RequestContext, answer};
use crate::coordinators::limited;
use crate::partitions::Reservation;
use chronik_core::groups::{GroupError, Request};
use chronik_wire::Header;
use chronik_wire::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, message,
};

pub(super) fn begin(
    handlers: &Handlers,
    header: Header,
    context: &RequestContext,
    request: OffsetDeleteRequest,
    reservation: &Reservation,
) -> Reply {
    let asked = wanted(&request)
        .map(|wanted| handlers.coordinators.ask(&request.group_id, context.client(), wanted, reservation));
    answer((&handlers.errors, header), async move {
        let deleted = match asked {
            Ok(asked) => answer_of!(asked.await, OffsetDelete).flatten(),
            Err(error) => Err(error),
        };
        let mut results = match deleted {
            Ok(results) => results.into_iter(),
            Err(error) => return message!(OffsetDeleteResponse { error_code: code::<()>(&Err(error)) }),
        };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().zip(&mut results).map(|(asked, result)| {
                message!(OffsetDeleteResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: code(&result),
                })
            });
            message!(OffsetDeleteResponseTopic { partitions: partitions.collect(), name: topic.name })
        });
        message!(OffsetDeleteResponse { topics: topics.collect() })
    })
}

fn wanted(request: &OffsetDeleteRequest) -> Result<Request, GroupError> {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| p.partition_index).collect();
        Ok((limited(&topic.name)?, partitions))
    });
    Ok(Request::OffsetDelete {
        group: group_id(&request.group_id)?,
        topics: topics.collect::<Result<_, GroupError>>()?,
    })
}

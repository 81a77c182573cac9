//! Who may do what: bindings with what they grant, and what a taxpayer is forbidden.

use super::{
    answers,
    service::{Answer, Service, kind, reason},
    status,
};
use crate::{
    model::Kind,
    pb::admin::v1 as pb,
    registry::{Forbidden, Grants, Operation},
};
use std::collections::BTreeSet;
use tonic::{Response, Status};

pub(super) async fn set_taxpayer(
    service: &Service,
    request: pb::SetTaxpayerRequest,
) -> Answer<pb::SetTaxpayerResponse> {
    reason(&request.reason)?;
    let kinds = request.forbidden_kinds.iter().map(|value| kind("forbidden_kinds", *value));
    let kinds = kinds.collect::<Result<BTreeSet<Kind>, Status>>()?;
    let forbidden = Forbidden { everything: request.forbidden, kinds };
    let taxpayer = service
        .change(move |actor, round| {
            round.forbid(actor, (&request.taxpayer_id, forbidden), &request.reason)
        })
        .await?;
    let taxpayer = Some(answers::taxpayer(&taxpayer));
    Ok(Response::new(pb::SetTaxpayerResponse { taxpayer }))
}

pub(super) async fn bind(
    service: &Service,
    request: pb::AddBindingRequest,
) -> Answer<pb::AddBindingResponse> {
    let binding = request.binding.unwrap_or_default();
    let wanted = grants(&binding.operations)?.unwrap_or_else(Grants::all);
    let binding = service
        .change(move |actor, round| {
            let granted =
                round.bind(actor, (&binding.platform_id, &binding.taxpayer_id), wanted)?;
            Ok(pb::Binding { operations: wire(&granted), ..binding })
        })
        .await?;
    Ok(Response::new(pb::AddBindingResponse { binding: Some(binding) }))
}

pub(super) async fn grant(
    service: &Service,
    request: pb::SetBindingRequest,
) -> Answer<pb::SetBindingResponse> {
    let binding = request.binding.unwrap_or_default();
    let wanted = grants(&binding.operations)?
        .ok_or_else(|| status::invalid("binding.operations", "one operation or more is needed"))?;
    let binding = service
        .change(move |actor, round| {
            let ids = (binding.platform_id.as_str(), binding.taxpayer_id.as_str());
            round.grant(actor, ids, wanted.clone())?;
            Ok(pb::Binding { operations: wire(&wanted), ..binding })
        })
        .await?;
    Ok(Response::new(pb::SetBindingResponse { binding: Some(binding) }))
}

pub(super) fn list(
    service: &Service,
    request: &pb::ListBindingsRequest,
) -> Response<pb::ListBindingsResponse> {
    let registry = service.core.numbering.registry();
    let mut bindings: Vec<_> = registry
        .bindings
        .iter()
        .filter_map(|((platform, taxpayer), granted)| {
            Some(pb::Binding {
                platform_id: registry.platforms.get(platform)?.id.clone(),
                taxpayer_id: registry.taxpayers.get(taxpayer)?.id.clone(),
                operations: wire(granted),
            })
        })
        .filter(|binding| {
            request.platform_id.is_empty() || binding.platform_id == request.platform_id
        })
        .collect();
    bindings
        .sort_by(|a, b| (&a.platform_id, &a.taxpayer_id).cmp(&(&b.platform_id, &b.taxpayer_id)));
    Response::new(pb::ListBindingsResponse { bindings })
}

/// `None` when none is given.
fn grants(values: &[i32]) -> Result<Option<Grants>, Status> {
    let operation = |value: &i32| {
        let wire = pb::Operation::try_from(*value).unwrap_or_default();
        of_wire(wire).ok_or_else(|| status::invalid("binding.operations", "no such operation"))
    };
    let grants = values.iter().map(operation).collect::<Result<Grants, Status>>()?;
    Ok((!values.is_empty()).then_some(grants))
}

fn wire(grants: &Grants) -> Vec<i32> {
    grants.iter().map(|operation| to_wire(operation).into()).collect()
}

fn of_wire(operation: pb::Operation) -> Option<Operation> {
    Operation::ALL.into_iter().find(|ours| to_wire(*ours) == operation)
}

fn to_wire(operation: Operation) -> pb::Operation {
    match operation {
        Operation::Issue => pb::Operation::Issue,
        Operation::Red => pb::Operation::Red,
        Operation::Void => pb::Operation::Void,
        Operation::Query => pb::Operation::Query,
        Operation::List => pb::Operation::List,
        Operation::Device => pb::Operation::Device,
    }
}

//! The simulator's controls over the wire: faults, limits and time, for drills. No fault strikes
//! them.

use super::{
    books::Books,
    call::House,
    faults::{Faults, Strike},
    monitor, status,
};
use crate::pb::authority::v1::{
    AddFaultsRequest, AddFaultsResponse, ClearFaultsRequest, ClearFaultsResponse,
    ListFaultsRequest, ListFaultsResponse, SetClockSkewRequest, SetClockSkewResponse,
    SetMonitorRequest, SetMonitorResponse, simulator_service_server::SimulatorService,
};
use tonic::{Request, Response, Status};

/// The controls of one simulator.
#[derive(Debug, Clone)]
pub(super) struct Controls {
    pub(super) house: House,
}

impl Controls {
    fn faults(&self) -> &Faults {
        &self.house.faults
    }
}

#[tonic::async_trait]
impl SimulatorService for Controls {
    async fn add_faults(
        &self,
        request: Request<AddFaultsRequest>,
    ) -> Result<Response<AddFaultsResponse>, Status> {
        let texts = request.into_inner().faults;
        let read = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Strike>, _>>();
        let added = read.and_then(|strikes| self.faults().extend(strikes));
        added.map_err(|why| status::invalid(&why))?;
        Ok(Response::new(AddFaultsResponse {}))
    }

    async fn list_faults(
        &self,
        _: Request<ListFaultsRequest>,
    ) -> Result<Response<ListFaultsResponse>, Status> {
        Ok(Response::new(ListFaultsResponse { faults: self.faults().list() }))
    }

    async fn clear_faults(
        &self,
        _: Request<ClearFaultsRequest>,
    ) -> Result<Response<ClearFaultsResponse>, Status> {
        self.faults().clear();
        self.house.work(|books| books.end_judging()).await?;
        Ok(Response::new(ClearFaultsResponse {}))
    }

    async fn set_monitor(
        &self,
        request: Request<SetMonitorRequest>,
    ) -> Result<Response<SetMonitorResponse>, Status> {
        let data = request.into_inner().monitor;
        let data = data.ok_or_else(|| status::invalid("monitor: it is needed"))?;
        monitor::check(&data)
            .map_err(|field| status::invalid(&format!("monitor.{field}: it is malformed")))?;
        let version = self.house.work(move |books| books.set_monitor(data)).await?;
        Ok(Response::new(SetMonitorResponse { version }))
    }

    async fn set_clock_skew(
        &self,
        request: Request<SetClockSkewRequest>,
    ) -> Result<Response<SetClockSkewResponse>, Status> {
        let seconds = request.into_inner().seconds;
        let skew = move |books: &mut Books| {
            books.set_skew(seconds);
            Ok(())
        };
        self.house.work(skew).await?;
        Ok(Response::new(SetClockSkewResponse {}))
    }
}

"""Run the command line of rms-cloud-tasks with a Pub/Sub emulator and without Cloud Monitoring.

rms-cloud-tasks requests the number of messages in a subscription from Cloud Monitoring. The
emulator does not provide Cloud Monitoring, and no environment variable gives its client library
another address. A fake client therefore replaces the library. It returns no data, as Cloud
Monitoring does for new subscriptions.
"""

from cloud_tasks import cli
from cloud_tasks.queue_manager import gcp


class NoData:
    def __init__(self, **_):
        pass

    def list_time_series(self, *_, **__):
        return []


def pull_at_once(self, request, pull=gcp.SubscriberClient.pull):
    return pull(self, request={**request, "return_immediately": True})


gcp.monitoring_v3.MetricServiceClient = NoData
gcp.SubscriberClient.pull = pull_at_once
cli.main()

"""Runs the moto server with fixes for its faults under load.

moto 5.2 counts all messages of a queue whenever it sends or receives a message. With a few
thousand messages, each count takes seconds. moto changes queues without a lock, so that
concurrent requests can restore a deleted message, lose a message or deliver it twice.
After the client of a long poll has disconnected, the poll continues, and the messages that
it receives are lost. Nagle's algorithm delays each response by 40 ms. The fixes do not
change the content of responses.
"""

import select
import socket
import sys
import threading

from flask import request
from moto.core.utils import unix_time, unix_time_millis
from moto.server import main
from moto.sqs import models
from moto.sqs.exceptions import ReceiptHandleIsInvalid
from werkzeug.serving import WSGIRequestHandler

Backend, Queue, Message = models.SQSBackend, models.Queue, models.Message
lock = threading.RLock()
by_handle = {}  # messages by receipt handle, from the first receive to the deletion


def locked(name):
    f = getattr(Backend, name)

    def call(*args, **kwargs):
        with lock:
            return f(*args, **kwargs)

    setattr(Backend, name, call)


def visible(queue):
    now = unix_time_millis()
    return [m for m in queue._messages if now > m.visible_at and now >= m.delayed_until]


counts = False  # whether a request for the numbers of messages is being processed


def get_queue_attributes(backend, queue_name, names, f=Backend.get_queue_attributes):
    global counts
    with lock:
        counts = True
        try:
            return f(backend, queue_name, names)
        finally:
            counts = False


def not_visible(queue):
    now = unix_time_millis()
    return sum(now <= m.visible_at for m in queue._messages) if counts else 0


def delayed(queue):
    now = unix_time_millis()
    return sum(now < m.delayed_until for m in queue._messages) if counts else 0


def mark_received(message, visibility_timeout=None, f=Message.mark_received):
    f(message, visibility_timeout)
    by_handle[message.receipt_handle] = message


def delete_message(queue, handle):
    if handle in queue.deleted_messages:
        return
    message = by_handle.get(handle)
    if message is None or message not in queue._messages:
        raise ReceiptHandleIsInvalid()
    queue.pending_messages.discard(message)
    queue.deleted_messages.update(message.all_receipt_handles)
    queue._messages.remove(message)
    for old in message.all_receipt_handles:
        by_handle.pop(old, None)


def change_message_visibility(
    backend, queue_name, receipt_handle, visibility_timeout, f=Backend.change_message_visibility
):
    message = by_handle.get(receipt_handle)
    queue = backend.get_queue(queue_name)
    if message is None or message not in queue._messages:
        raise ReceiptHandleIsInvalid()
    all_messages = queue._messages
    queue._messages = [message]
    try:
        f(backend, queue_name, receipt_handle, visibility_timeout)
    finally:
        queue._messages = all_messages
    with queue._messages_lock:
        queue._messages_lock.notify_all()


def client_is_gone():
    sock = request.environ.get("werkzeug.socket")
    readable, _, _ = select.select([sock], [], [], 0)
    return bool(readable) and sock.recv(1, socket.MSG_PEEK) == b""


def receive_message(
    backend, queue_name, count, wait, visibility_timeout, names=None, f=Backend.receive_message
):
    end = unix_time() + wait
    while True:
        with lock:
            if client_is_gone():
                return []
            found = f(backend, queue_name, count, 0, visibility_timeout, names)
        if found or unix_time() >= end:
            return found
        backend.get_queue(queue_name).wait_for_messages(min(1, max(end - unix_time(), 0)))


def is_young(backend, queue_name, message):
    kept = backend.get_queue(queue_name).message_retention_period
    return kept + message.sent_timestamp / 1000 > unix_time()


Queue.messages = property(visible)
Queue.approximate_number_of_messages = property(lambda q: len(visible(q)) if counts else 0)
Queue.approximate_number_of_messages_not_visible = property(not_visible)
Queue.approximate_number_of_messages_delayed = property(delayed)
Queue.delete_message = delete_message
Message.mark_received = mark_received
Backend.is_message_valid_based_on_retention_period = is_young
Backend.change_message_visibility = change_message_visibility
Backend.receive_message = receive_message
Backend.get_queue_attributes = get_queue_attributes
for action in (
    "send_message",
    "send_message_batch",
    "delete_message",
    "delete_message_batch",
    "change_message_visibility",
    "change_message_visibility_batch",
    "purge_queue",
):
    locked(action)

WSGIRequestHandler.disable_nagle_algorithm = True
sys.argv[0] = "moto_server"
sys.exit(main())

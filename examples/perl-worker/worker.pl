#!/usr/bin/env perl
# A worker process that adds two numbers. It uses no SDK; docs/protocol.md describes the protocol.
#
#   ctworker run --task-file tasks.json -j auto --isolation reuse -- perl worker.pl
#   ctworker protocol-check -- perl worker.pl
use strict;
use warnings;
use Errno qw(EAGAIN EINTR);
use Fcntl qw(F_GETFD F_SETFD FD_CLOEXEC);
use IO::Handle;
use JSON::PP;

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# The socket to ctworker, and the pipe that decides which tasks this process may start. With
# close-on-exec, programs that a task starts do not inherit them.
open(my $socket, '+<&=', $ENV{CTWORKER_FD}) or die "CTWORKER_FD: $!; run this with ctworker run --isolation reuse\n";
binmode($socket);
my $claims;
open($claims, '<&=', $ENV{CTWORKER_CLAIM_FD}) or die "CTWORKER_CLAIM_FD: $!\n" if defined $ENV{CTWORKER_CLAIM_FD};
for my $handle (grep { defined } $socket, $claims) {
    fcntl($handle, F_SETFD, fcntl($handle, F_GETFD, 0) | FD_CLOEXEC);
}

# write_line writes one value as a line of JSON.
sub write_line {
    my $line = $json->encode($_[0]) . "\n";
    my $done = 0;
    while ($done < length $line) {
        my $n = syswrite($socket, $line, length($line) - $done, $done);
        next if !defined $n && $! == EINTR;
        exit 1 if !defined $n;    # ctworker has exited
        $done += $n;
    }
}

# claim claims the next task: it takes a byte from the pipe, and reports whether there was one. If
# there was none, ctworker has revoked the task, and this process must return it.
sub claim {
    return 1 if !defined $claims;
    my $n;
    do { $n = sysread($claims, my $byte, 1) } while !defined $n && $! == EINTR;
    return defined $n && $n == 1;
}

# run_task returns the result of a task.
sub run_task {
    my ($task) = @_;
    my $data = $task->{data};
    die "the task has no num1 and num2\n" if ref $data ne 'HASH' || !defined $data->{num1} || !defined $data->{num2};
    return { sum => $data->{num1} + $data->{num2} };
}

my $hello = $json->decode(scalar readline($socket) // exit 0)->{hello};
die "this worker does not support version $hello->{version} of the task protocol\n" if $hello->{version} != 1;
write_line({ ready => { version => 1, ahead => defined $claims ? JSON::PP::true : JSON::PP::false, sdk => 'perl example' } });

while (defined(my $line = readline($socket))) {
    my $task = $json->decode($line);
    next if !defined $task->{task_id};    # a line of a later protocol version
    if (!claim()) {
        write_line({ task_id => $task->{task_id}, returned => JSON::PP::true });
        next;
    }
    my $result = eval { run_task($task) };
    if ($@) {
        write_line({ task_id => $task->{task_id}, exception => "$@" });
        next;
    }
    write_line({ task_id => $task->{task_id}, retry => JSON::PP::false, result => $result });
}

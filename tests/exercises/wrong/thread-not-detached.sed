# 01-blocking/thread
# a client that leaves leaves nothing behind
# who takes back an ended thread's stack
# Nobody joins or detaches the threads that have ended.
/^static bool start_thread/,/^}/{
    /^    if (error == 0)/d
    /pthread_detach(thread)/d
}

# 08-threadpool/threadpool.c
# caught by leaving who_half_closes_at_once_is_answered
# Who closes its side loses its place even if nobody has to wait.
s/counts.busy + counts.queued > counts.size && //

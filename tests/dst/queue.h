/* What holds of a wait queue whenever all fibers wait, for dst_when_idle.  Reads private fields. */
#ifndef DST_QUEUE_H_INCLUDED
#define DST_QUEUE_H_INCLUDED

/* Says what is wrong with a queue that nobody works on, or NULL. */
static const char *queue_wrong(const rm_waitq *q) {
    const rm_waiter *waiter;
    uint32_t waiting = 0;
    for (waiter = q->head; waiter != NULL; waiter = waiter->next)
        ++waiting;
    if (waiting != q->stats.waiting) return "the queue is not as long as its statistics say";
    if ((q->word & 1u) != (q->head != NULL)) return "the word does not tell whether somebody waits";
    if (q->closed && q->head != NULL) return "somebody waits in a closed queue";
    if ((q->closed || (q->head != NULL && q->desc.barge_ns == RM_STRICT)) && !(q->word & 2u))
        return "the word lets newcomers take what is not theirs";
    if (q->woken != NULL) return "a waiter was woken and sleeps";
    if (q->done != NULL) return "a completion callback is due and nobody runs it";
    return NULL;
}

#endif

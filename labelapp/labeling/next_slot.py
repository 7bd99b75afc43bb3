"""The statement that decides which slot a labeler gets next."""

# One statement, which ends in the CTE `claimed`: no row or one. In this order:
# 1. What the labeler holds already and does not name as in hand, so that reloads and second tabs do not hoard; waiting
#    for its lock (no SKIP LOCKED) lets a submit in the other tab finish.
# 2. What is reserved for them and due.
# 3. The next slot that is open, or whose lease has run out, of a comparison that they neither hold nor judged nor
#    skipped nor reviewed: of the first priority, in some ten thousand places from theirs in the random order on.
# 4. Whatever else there is for them, from their place on and round, priority by priority: found by hashing all that
#    they have seen, for a walk with a look for each place would take most of a minute where they have seen a million.
#    More candidates than connections, so one is not locked.
# What took long is not done over and over: their place moves to where something was found, and priorities that held
# nothing for them are passed over for a hundred times as long as it took, ten minutes at most.
# Ordering by columns that only the partial index has keeps the planner from walking the primary key; scalar subqueries
# (not joins), and a COALESCE around `<@` (which it takes for true of one row in 200), let it walk that index in order.
# What is in hand stays so for another lease.
CLAIM = """
WITH me AS (
  SELECT m.id, m.tags, m.shuffle_start, m.paused_at IS NULL AS here, days.judged,
    CASE WHEN m.passed_until > statement_timestamp() THEN m.passed_below ELSE -2147483648 END AS first_priority,
    m.shuffle_start + (4294967296 * LEAST(1, 10000 / GREATEST(reltuples, 1)))::bigint AS look_until,
    m.paused_at IS NULL AND (m.role <> 'labeler' OR p.quiz_items = 0 OR m.qualified_at IS NOT NULL)
      AND days.today + cardinality(%(holding)s::bigint[]) < COALESCE(m.daily_cap, p.daily_cap, 2147483647) AS works
  FROM labelapp_membership m JOIN labelapp_project p ON p.id = m.project_id
    JOIN pg_class ON pg_class.oid = 'slot_queue'::regclass CROSS JOIN LATERAL (
    SELECT COALESCE(sum(d.judged), 0) AS judged,
      COALESCE(sum(d.judged) FILTER (WHERE d.day = (statement_timestamp() AT TIME ZONE 'UTC')::date), 0) AS today
    FROM labelapp_workday d WHERE d.project_id = m.project_id AND d.labeler_id = m.user_id) days
  WHERE m.project_id = %(project)s AND m.user_id = %(labeler)s
), top AS (
  SELECT priority FROM labelapp_slot
  WHERE project_id = %(project)s AND state IN ('open', 'leased') AND reserved_for_id IS NULL
    AND priority >= (SELECT first_priority FROM me)
  ORDER BY priority, shuffle_key LIMIT 1
), kept AS (
  UPDATE labelapp_slot SET lease_until = statement_timestamp() + %(lease)s
  WHERE id = ANY(%(holding)s) AND labeler_id = %(labeler)s AND state = 'leased'
), theirs AS (
  SELECT COALESCE(
    (SELECT own.id FROM labelapp_slot own
     WHERE own.labeler_id = %(labeler)s AND own.state = 'leased' AND own.project_id = %(project)s
       AND own.id <> ALL(%(holding)s)
     ORDER BY own.lease_until DESC LIMIT 1 FOR UPDATE),
    (SELECT due.id FROM labelapp_slot due
     WHERE due.reserved_for_id = %(labeler)s AND due.project_id = %(project)s AND due.state IN ('open', 'leased')
       AND (due.state = 'open' OR due.lease_until < statement_timestamp()) AND due.id <> ALL(%(holding)s)
       AND CASE due.purpose WHEN 'quiz' THEN (SELECT here FROM me) ELSE (SELECT works FROM me) END
       AND (num_nonnulls(due.not_before, due.after_judged) = 0 OR due.not_before <= statement_timestamp()
            OR due.after_judged <= (SELECT judged FROM me))
     ORDER BY due.id LIMIT 1 FOR UPDATE SKIP LOCKED)) AS id
), chosen AS (
  SELECT COALESCE(
    (SELECT id FROM theirs),
    (SELECT next.id FROM labelapp_slot next
     WHERE {free} AND next.priority = (SELECT priority FROM top)
       AND next.shuffle_key >= (SELECT shuffle_start FROM me) AND next.shuffle_key <= (SELECT look_until FROM me)
     ORDER BY next.priority, next.shuffle_key LIMIT 1 FOR UPDATE OF next SKIP LOCKED),
    (SELECT got.id FROM (
       SELECT next.id, next.priority, next.shuffle_key < (SELECT shuffle_start FROM me) AS around, next.shuffle_key
       FROM labelapp_slot next
       WHERE {free} AND next.priority >= (SELECT priority FROM top)
       ORDER BY next.priority, around, next.shuffle_key LIMIT 100) rest
     CROSS JOIN LATERAL (
       SELECT slot.id FROM labelapp_slot slot
       WHERE slot.id = rest.id AND slot.reserved_for_id IS NULL AND slot.priority = rest.priority
         AND (slot.state = 'open' OR slot.state = 'leased' AND slot.lease_until < statement_timestamp())
       FOR UPDATE SKIP LOCKED) got
     ORDER BY rest.priority, rest.around, rest.shuffle_key LIMIT 1)) AS id
), claimed AS (
  UPDATE labelapp_slot SET
    claim_token = CASE WHEN labeler_id = %(labeler)s THEN claim_token ELSE gen_random_uuid() END,
    state = 'leased', labeler_id = %(labeler)s, lease_until = statement_timestamp() + %(first_lease)s
  WHERE id = (SELECT id FROM chosen)
  RETURNING *
), walked AS (
  UPDATE labelapp_membership m SET
    shuffle_start = COALESCE(found.shuffle_key, m.shuffle_start),
    passed_below = CASE WHEN found.priority = top.priority THEN m.passed_below
      ELSE COALESCE(found.priority, 2147483648) END,
    passed_until = CASE WHEN found.priority = top.priority THEN m.passed_until
      ELSE statement_timestamp() + LEAST(100 * (clock_timestamp() - statement_timestamp()), %(lease)s) END
  FROM chosen CROSS JOIN top LEFT JOIN labelapp_slot found ON found.id = chosen.id
  WHERE m.id = (SELECT id FROM labelapp_membership WHERE id = (SELECT id FROM me) AND {long}
                FOR NO KEY UPDATE SKIP LOCKED)
)
"""
# In a short queue nothing is ever passed over; SKIP LOCKED, for others may lock the membership before a slot.
LONG = """CASE WHEN (SELECT works FROM me) AND (SELECT id FROM theirs) IS NULL
                  AND clock_timestamp() - statement_timestamp() > interval '50 ms'
                THEN EXISTS (SELECT FROM labelapp_slot WHERE project_id = %(project)s AND state IN ('open', 'leased')
                  AND reserved_for_id IS NULL ORDER BY priority, shuffle_key OFFSET 5000 LIMIT 1) END"""
FREE = """next.project_id = %(project)s AND next.state IN ('open', 'leased') AND next.reserved_for_id IS NULL
       AND (next.state = 'open' OR next.lease_until < statement_timestamp())
       AND (SELECT works FROM me) AND COALESCE(next.requires <@ (SELECT tags FROM me), false)
       AND NOT EXISTS (SELECT FROM labelapp_slot mine WHERE mine.comparison_id = next.comparison_id
                       AND mine.labeler_id = %(labeler)s AND mine.state IN ('leased', 'done'))
       AND NOT EXISTS (SELECT FROM labelapp_judgment mine WHERE mine.comparison_id = next.comparison_id
                       AND mine.labeler_id = %(labeler)s)
       AND NOT EXISTS (SELECT FROM labelapp_skip mine WHERE mine.comparison_id = next.comparison_id
                       AND mine.labeler_id = %(labeler)s)
       AND NOT EXISTS (SELECT FROM labelapp_review mine JOIN labelapp_judgment seen ON seen.id = mine.judgment_id
                       WHERE seen.comparison_id = next.comparison_id AND mine.reviewer_id = %(labeler)s)"""
CLAIM = CLAIM.replace("{free}", FREE).replace("{long}", LONG)

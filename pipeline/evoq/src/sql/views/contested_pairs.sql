SELECT run, round, workflow_step, variant,
       row_number() OVER (
           PARTITION BY run, round, workflow_step, variant
           ORDER BY abs(CAST(votes_a AS BIGINT) - CAST(votes_b AS BIGINT)) / CAST(votes_a + votes_b AS DOUBLE),
                    votes_a + votes_b DESC, pair_id
       ) AS place,
       pair_id, image_a, image_b, votes_a, votes_b, votes_invalid, agreement, preference
FROM labels
WHERE votes_a + votes_b > 0

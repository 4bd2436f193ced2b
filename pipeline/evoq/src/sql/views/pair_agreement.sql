SELECT run, round, workflow_step, variant, pair_id, image_a, image_b,
       votes_a, votes_b, votes_invalid,
       CAST(greatest(votes_a, votes_b) AS DOUBLE) / nullif(votes_a + votes_b, 0) AS agreement,
       CAST(votes_a AS DOUBLE) / nullif(votes_a + votes_b, 0) AS share_a,
       share_a_first,
       share_a_second,
       probability_a
FROM (
    SELECT run, round, workflow_step, variant, pair_id, image_a, image_b,
           count(*) FILTER (WHERE outcome = 'a') AS votes_a,
           count(*) FILTER (WHERE outcome = 'b') AS votes_b,
           count(*) FILTER (WHERE outcome = 'invalid') AS votes_invalid,
           avg(CASE outcome WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 END) FILTER (WHERE presented = 'ab') AS share_a_first,
           avg(CASE outcome WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 END) FILTER (WHERE presented = 'ba') AS share_a_second,
           avg(probability_a / nullif(probability_a + probability_b, 0)) AS probability_a
    FROM votes
    GROUP BY run, round, workflow_step, variant, pair_id, image_a, image_b
)

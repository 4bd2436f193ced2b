SELECT run, round, workflow_step, variant, votes, valid, first,
       CAST(first AS DOUBLE) / nullif(valid, 0) AS first_rate,
       share_a_first,
       share_a_second,
       share_a_first - share_a_second AS effect
FROM (
    SELECT run, round, workflow_step, variant,
           count(*) AS votes,
           count(*) FILTER (WHERE outcome IN ('a', 'b')) AS valid,
           count(*) FILTER (WHERE (presented = 'ab' AND outcome = 'a') OR (presented = 'ba' AND outcome = 'b')) AS first,
           avg(CASE outcome WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 END) FILTER (WHERE presented = 'ab') AS share_a_first,
           avg(CASE outcome WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 END) FILTER (WHERE presented = 'ba') AS share_a_second
    FROM votes
    WHERE outcome IS NOT NULL
    GROUP BY run, round, workflow_step, variant
)
